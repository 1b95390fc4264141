"""The last turns of an event stream, as JP's own fork keeps them (contract 6.9). Pure, on the texts of the elements.

A turn begins with a `turn_start`. What belongs to the conversation as a whole (config, elements of unknown kinds)
survives every cut; what the cut leaves without its other half goes as JP's sanitising lets it go, in the same order.
No element that stays is ever serialised again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from convsync_agent.rawjson import as_array, elements

TURN, ASKED, CALL, RESULT = "turn_start", "chat_request", "tool_call_request", "tool_call_response"
INQUIRY, ANSWER, COMPACTION = "inquiry_request", "inquiry_response", "compaction"
OF_A_TURN = frozenset({TURN, ASKED, "chat_response", CALL, RESULT, INQUIRY, ANSWER})
EPOCH = "1970-01-01 00:00:00.0"
INTERRUPTED = base64.b64encode(b"Tool call was interrupted.").decode()


class _Element(NamedTuple):
    text: str
    kind: str
    id: str = ""
    at: str = EPOCH

    @property
    def counts(self) -> bool:
        """An event of a turn: everything else survives whatever is cut."""
        return self.kind in OF_A_TURN


def last_turns(raw: bytes, count: int, *, packed: bool) -> bytes:
    """`events.json` with its last `count` turns; 0 leaves the config. The same bytes where nothing has to go.

    `packed`: the first element is the config of a stream without `base_config.json`, and stays what it is.
    """
    texts = elements(raw)
    head, rest = texts[: int(packed)], [_read(t) for t in texts[int(packed) :]]
    kept = [*head, *(e.text for e in _sane(_cut(rest, count)))]
    return raw if kept == texts else as_array(kept)


def first_of(raw: bytes) -> bytes:
    """A packed stream without any event: only the config that it begins with."""
    return as_array(elements(raw)[:1])


def _read(text: str) -> _Element:
    fields: dict[str, Any] = json.loads(text)
    kind, key, at = fields.get("type"), fields.get("id"), fields.get("timestamp")
    return _Element(
        text,
        kind if isinstance(kind, str) else "",
        json.dumps(key, sort_keys=True) if key is not None else "",
        at if isinstance(at, str) else EPOCH,
    )


def _cut(events: list[_Element], count: int) -> list[_Element]:
    """Compactions name turns by position: as soon as the first turn goes, none of them means what it says."""
    starts = [i for i, e in enumerate(events) if e.kind == TURN]
    if count and len(starts) <= count:
        return events
    begin = starts[-count] if count else len(events)
    kept = [e for i, e in enumerate(events) if i >= begin or not e.counts]
    return kept if len(kept) == len(events) else [e for e in kept if e.kind != COMPACTION]


# -- what JP repairs after a cut, in its order -------------------------------------------


def _sane(events: list[_Element]) -> list[_Element]:
    for repair in (_without_leading, _without_lone_results, _with_every_result, _without_lone_inquiries, _trimmed):
        events = repair(events)
    return _with_one_start(events)


def _without_leading(events: list[_Element]) -> list[_Element]:
    """No answer comes before the first question."""
    first = _position(events, ASKED)
    if first is None:
        return events
    return [e for i, e in enumerate(events) if i >= first or not e.counts or e.kind == TURN]


def _without_lone_results(events: list[_Element]) -> list[_Element]:
    calls = _ids(events, CALL)
    return [e for e in events if e.kind != RESULT or e.id in calls]


def _with_every_result(events: list[_Element]) -> list[_Element]:
    """A call that nothing answers is answered with an error, right behind it: providers want a result for each."""
    answered = _ids(events, RESULT)
    found = []
    for event in events:
        found.append(event)
        if event.kind == CALL and event.id not in answered:
            found.append(_made(RESULT, event.at, id=json.loads(event.id), content=INTERRUPTED, is_error=True))
    return found


def _without_lone_inquiries(events: list[_Element]) -> list[_Element]:
    asked = _ids(events, INQUIRY)
    events = [e for e in events if e.kind != ANSWER or e.id in asked]
    answered = _ids(events, ANSWER)
    return [e for e in events if e.kind != INQUIRY or e.id in answered]


def _trimmed(events: list[_Element]) -> list[_Element]:
    """A turn that has nothing but its start goes, at the end."""
    last = next((i for i in reversed(range(len(events))) if events[i].counts), None)
    return events if last is None or events[last].kind != TURN else events[:last] + events[last + 1 :]


def _with_one_start(events: list[_Element]) -> list[_Element]:
    """Exactly one `turn_start` comes before the first question."""
    if all(e.kind == TURN for e in events if e.counts):
        return events
    first = _position(events, ASKED)
    starts = [i for i, e in enumerate(events) if e.kind == TURN and (first is None or i < first)]
    if starts:
        gone = starts[:-1] if first is not None else []
        return [e for i, e in enumerate(events) if i not in gone]
    at = first or 0
    stamp = events[at].at if events[at].counts else EPOCH
    return [*events[:at], _made(TURN, stamp), *events[at:]]


def _made(kind: str, at: str, **fields: Any) -> _Element:
    text = json.dumps({"timestamp": at, "type": kind} | fields, indent=2, ensure_ascii=False).replace("\n", "\n  ")
    return _Element(text, kind, json.dumps(fields["id"]) if "id" in fields else "", at)


def _ids(events: Sequence[_Element], kind: str) -> set[str]:
    return {e.id for e in events if e.kind == kind}


def _position(events: Sequence[_Element], kind: str) -> int | None:
    return next((i for i, e in enumerate(events) if e.kind == kind), None)
