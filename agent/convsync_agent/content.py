"""How good the bytes of one managed file are (R3), and whether one content holds all of another (R4).

Stricter than JP's sanitize, so that what wins also loads (contract 4.5-4.7), and no stricter than that:
unknown kinds of events, unknown fields and any type of an optional field pass. A fault never quotes the file.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA
from convsync_agent.passage import Passage, first_changed, passage, patched
from convsync_agent.strict_json import NotJson, depth, parse, same_json
from convsync_agent.summary import parse_timestamp

Stream = tuple[bytes | None, bytes]
"""`base_config.json`, None where the config is packed into the events, and `events.json`."""

_NEEDS: dict[str, tuple[tuple[str, type], ...]] = {
    "turn_start": (),
    "chat_request": (("content", str),),
    "chat_response": (),
    "tool_call_request": (("id", str), ("name", str)),
    "tool_call_response": (("id", str), ("content", str), ("is_error", bool)),
    "inquiry_request": (("id", object), ("source", object), ("question", object)),
    "inquiry_response": (("id", object), ("answer", object)),
    "compaction": (("from_turn", int), ("to_turn", int)),
}
_WORDS = {str: "a string", bool: "true or false", int: "a whole number"}
_CONFIG = "config_delta"  # JP loads it whatever is in it, so nothing is asked of it
_CONFIG_KEYS = frozenset({"type", "timestamp", "delta"})
_LAST_ACTIVATED = "last_activated_at"


def check_metadata(raw: bytes) -> str:
    """'' or what is wrong: JP hides a conversation whose metadata it cannot read."""
    try:
        fields = parse(raw)
    except NotJson as fault:
        return f"{METADATA}: {fault}"
    if not isinstance(fields, dict):
        return f"{METADATA}: not an object"
    if _LAST_ACTIVATED not in fields:
        return f"{METADATA}: no {_LAST_ACTIVATED}"
    if not isinstance(fields[_LAST_ACTIVATED], str):
        return f"{METADATA}: {_LAST_ACTIVATED} is not a string"
    return ""


def check_base_config(raw: bytes) -> str:
    """'' or what is wrong. Any JSON will do: JP strips what it does not know (contract 4.4)."""
    try:
        parse(raw)
    except NotJson as fault:
        return f"{BASE_CONFIG}: {fault}"
    return ""


def check_events(raw: bytes, packed: bool) -> str:  # noqa: FBT001 - the one fact that decides the layout
    """'' or what is wrong. `packed`: there is no `base_config.json`, so the first element must hold it."""
    try:
        events = parse(raw)
    except NotJson as fault:
        return f"{EVENTS}: {fault}"
    if not isinstance(events, list):
        return f"{EVENTS}: not an array"
    for number, event in enumerate(events):
        fault_of_one = _fault(event)
        if fault_of_one:
            return f"{EVENTS}: element {number}: {fault_of_one}"
    if packed and not events:
        return f"{EVENTS}: no elements and no {BASE_CONFIG}"
    if packed and events[0]["type"] != _CONFIG:
        return f"{EVENTS}: element 0: no {_CONFIG}, and no {BASE_CONFIG}"
    return ""


class Continued(NamedTuple):
    """What is wrong with a stream, and whether it is certain that neither it nor the one before holds the other."""

    fault: str
    apart: bool = False


def check_continued(raw: bytes, before: bytes, packed: bool) -> Continued:  # noqa: FBT001 - as above
    """`check_events` of `raw`, where `before` is valid for the same layout: only what is new, or differs, is parsed.

    A stream grows at its end, or changes in one place, or both. Of what is faulty all is parsed: that says where.
    """
    if _grown(raw, before):
        return Continued("")
    first, between = first_changed(raw, before), passage(raw, before)
    if between is not None and len(between.one) <= len(raw) // 2 and (both := _sound(between, packed=packed)):
        return Continued("", apart=_apart(both))
    if first is not None and (both := _sound(first, packed=packed)) and _grown(raw, patched(raw, before, first)):
        return Continued("", apart=_apart(both))
    return Continued(check_events(raw, packed))


def _apart(both: tuple[list[Any], list[Any]]) -> bool:
    """The first elements that may differ do: they have the same place in both streams."""
    return not same_json(both[0][0], both[1][0])


def _grown(raw: bytes, before: bytes) -> bool:
    """`raw` is `before`, which is valid, and sound elements after it. False: not known.

    What stands before the closing bracket of `before` is whole elements. If `raw` begins with it and goes on with a
    comma or the bracket, `raw` is valid exactly if an array of one element that goes on like that is.
    """
    end = _end(before)
    if not end or not raw.startswith(memoryview(before)[:end]):
        return False
    rest = raw[end:]
    if rest.lstrip(_SPACE)[:1] not in (b",", b"]"):
        return False
    try:
        _, *events = _events(b"[0" + rest)
    except NotJson:
        return False
    return not any(map(_fault, events))


def _sound(found: Passage, *, packed: bool) -> tuple[list[Any], list[Any]] | None:
    """What differs, new and old, if it is whole elements without fault. None: not known."""
    try:
        new, old = _events(b"[" + found.one + b"]"), _events(b"[" + found.other + b"]")
    except NotJson:
        return None
    if any(map(_fault, new)) or (packed and found.leads and not has_config(new[0])):
        return None
    return (new, old) if depth(new) <= depth(old) else None  # it may be that they lie deeper than they look


def _end(raw: bytes) -> int:
    """How many bytes of valid events stand before the closing bracket and the space around it; 0: no element does."""
    closed = _before_space(raw, len(raw))
    if raw[closed - 1 : closed] != b"]":
        return 0
    end = _before_space(raw, closed - 1)
    return 0 if raw[end - 1 : end] == b"[" else end  # no value ends like that


def _before_space(raw: bytes, at: int) -> int:
    """Where the space ends that stands before this place. Looked at from there: all but this is long."""
    while at > 0:
        part = raw[max(0, at - _NEAR) : at]
        if left := len(part.rstrip(_SPACE)):
            return at - len(part) + left
        at -= len(part)
    return 0


def stream_contains(outer: Stream, inner: Stream) -> bool:
    """`inner` has the base config of `outer` and its events are the first ones of `outer`, or all.

    Of content that does not parse, only equal bytes are contained, or bytes that `outer` starts with.
    """
    if outer == inner:
        return True
    (outer_base, outer_events), (inner_base, inner_events) = outer, inner
    packed = outer_base is None
    try:
        if packed is not (inner_base is None):
            return _contains_mixed(outer, inner)
        if outer_base != inner_base and not same_json(parse(outer_base or b""), parse(inner_base or b"")):
            return False
        if _continues(outer_events, inner_events, packed=packed):
            return True
        if _heads_differ(outer_events, inner_events) or _elements_differ(outer_events, inner_events):
            return False
        longer, shorter = _events(outer_events), _events(inner_events)
    except NotJson:
        return False
    return (bool(shorter) or not packed) and _starts_with(longer, shorter)


def metadata_contains(outer: bytes, inner: bytes) -> bool:
    """`inner` says what `outer` says, except that it was activated earlier: nothing is lost with it."""
    if outer == inner:
        return True
    try:
        newer, older = parse(outer), parse(inner)
    except NotJson:
        return False
    if same_json(newer, older):
        return True
    if not isinstance(newer, dict) or not isinstance(older, dict):
        return False
    late, early = newer.pop(_LAST_ACTIVATED, None), older.pop(_LAST_ACTIVATED, None)
    if not isinstance(late, str) or not isinstance(early, str):
        return False
    late_ns, early_ns = parse_timestamp(late), parse_timestamp(early)
    return late_ns is not None and early_ns is not None and early_ns <= late_ns and same_json(newer, older)


def last_activated(raw: bytes) -> int | None:
    """When the metadata says that its conversation was last activated, ns; None where it does not say."""
    return _time_in(raw, _LAST_ACTIVATED)


def expires_at(raw: bytes) -> int | None:
    """When JP removes the conversation by itself, ns; None: never (contract 6.8)."""
    return _time_in(raw, "expires_at")


def _time_in(raw: bytes, field: str) -> int | None:
    try:
        said = parse(raw)
    except NotJson:
        return None
    text = said.get(field) if isinstance(said, dict) else None
    return parse_timestamp(text) if isinstance(text, str) else None


def title_of(raw: bytes) -> str | None:
    """The title in a metadata.json; None where there is none."""
    try:
        said = parse(raw)
    except NotJson:
        return None
    title = said.get("title") if isinstance(said, dict) else None
    return title if isinstance(title, str) else None


def _fault(event: Any) -> str:
    if not isinstance(event, dict):
        return "not an object"
    if "type" not in event:
        return "no type"
    kind = event["type"]
    needs = _NEEDS.get(kind) if isinstance(kind, str) else None
    if "timestamp" not in event:
        return "no timestamp" if needs is None else f"{kind} without timestamp"
    if needs is None:
        return ""
    if not isinstance(event["timestamp"], str):
        return f"{kind}: timestamp is not a string"
    for name, wanted in needs:
        if name not in event:
            return f"{kind} without {name}"
        if wanted is not object and type(event[name]) is not wanted:
            return f"{kind}: {name} is not {_WORDS[wanted]}"
    if kind == "chat_response" and not _answers(event):
        return f"{kind} without message, reasoning or data"
    return ""


def fault_of(event: Any) -> str:
    """'' or what is wrong with one element of an event stream."""
    return _fault(event)


def has_config(event: Any) -> bool:
    """An element without a fault is the one that a packed stream begins with."""
    return bool(event["type"] == _CONFIG)


def no_config(events: int) -> str:
    """What is wrong with a packed stream of so many elements whose first one is another."""
    return f"element 0: no {_CONFIG}, and no {BASE_CONFIG}" if events else f"no elements and no {BASE_CONFIG}"


def _answers(event: dict[str, Any]) -> bool:
    return isinstance(event.get("message"), str) or isinstance(event.get("reasoning"), str) or "data" in event


def _continues(outer: bytes, inner: bytes, *, packed: bool) -> bool:
    """An append, by bytes: `inner` without its closing bracket, then more elements or the end.

    Both are valid JSON, so what comes before the bracket ends with a whole token in both.
    """
    if not (end := _end(inner)):
        nothing = not packed and inner.translate(None, _SPACE) == b"[]"
        return nothing and outer.lstrip().startswith(b"[") and outer.rstrip().endswith(b"]")
    return outer.startswith(memoryview(inner)[:end]) and outer[end : end + _NEAR].lstrip()[:1] in (b",", b"]")


_SPACE = b" \t\r\n"
_HEAD, _NEAR = 2048, 64
_PARSED_AT_MOST = 1 << 20


def _heads_differ(outer: bytes, inner: bytes) -> bool:
    """A cheap no: a stream edited at its start is not continued, and a huge one is not worth two parses.

    A wrong no is safe: what is not known to be contained is kept (R4).
    """
    if len(inner) <= _HEAD or len(inner) > _PARSED_AT_MOST:
        return len(inner) > _HEAD
    one, two = (raw[:_HEAD].translate(None, _SPACE)[: _HEAD // 4] for raw in (outer, inner))
    return one != two and b"\\" not in one and b"\\" not in two


def _elements_differ(outer: bytes, inner: bytes) -> bool:
    """Another cheap no: the elements in which the bytes begin to differ are at the same place, and are not the same."""
    found = first_changed(outer, inner)
    try:
        return found is not None and not same_json(parse(found.one), parse(found.other))
    except NotJson:
        return False


def _contains_mixed(outer: Stream, inner: Stream) -> bool:
    """One side has its config packed into the events, the other beside them: JP upgraded it in between."""
    packed, split = (outer, inner) if outer[0] is None else (inner, outer)
    config, packed_events, split_events = parse(split[0] or b""), _events(packed[1]), _events(split[1])
    head = packed_events[0] if packed_events else None
    if not isinstance(head, dict) or head.keys() != _CONFIG_KEYS or head["type"] != _CONFIG:
        return False
    if not same_json(head["delta"], config):
        return False
    # An upgrade that was interrupted leaves the packed element behind in the split events (contract 4.6).
    if not (split_events and same_json(head, split_events[0])):
        packed_events = packed_events[1:]
    longer, shorter = (packed_events, split_events) if packed is outer else (split_events, packed_events)
    return _starts_with(longer, shorter)


def _events(raw: bytes) -> list[Any]:
    events = parse(raw)
    if not isinstance(events, list):
        raise NotJson("not an array")
    return events


def _starts_with(longer: list[Any], shorter: list[Any]) -> bool:
    return len(shorter) <= len(longer) and same_json(longer[: len(shorter)], shorter)
