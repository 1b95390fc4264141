"""Generated conversations in JP's own shape, and JP's ways of writing them (contract 4, 6, 7.1, 7.3).

For the demo, the benchmarks and the tests: the same seed and id give the same bytes on every machine.
Nothing the agent does depends on this module.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import random
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.layout import lock_path
from convsync_agent.model import BASE_CONFIG, EVENTS, MANAGED, METADATA
from convsync_agent.names import created_ms, parse_dirname

WRITE_ORDER = (METADATA, BASE_CONFIG, EVENTS)
SESSION = "getsid-1"

_SUBJECTS = ("the parser", "the build", "a retry", "the café menu", "the index", "an empty list", "the 時計 widget")
_VERBS = ("reads", "keeps", "skips", "returns", "counts", "renames", "waits for")
_OBJECTS = ("two files", "every line", "the last entry", "a naïve date", "one lock", "the cache", "the rest")
_TOOLS = ("read_file", "list_files", "run_tests")
_END = b"\n]\n"
_TIMESTAMP = re.compile(rb'"timestamp": "([0-9-]{10} [0-9:]{8}(?:\.[0-9]{1,6})?)')


class Sample(NamedTuple):
    """One conversation directory: its name and the bytes of its managed files."""

    name: str
    files: dict[str, bytes]


# -- content ------------------------------------------------------------------


def conversation(seed: int, *, cid: int, title: str | None, turns: int) -> dict[str, bytes]:
    """The three managed files of a conversation with `turns` turns, as JP would write them."""
    draw = random.Random(f"{seed}/{cid}")  # noqa: S311  # content to look at, no secret
    at = _created(cid)
    events: list[dict[str, Any]] = []
    for number in range(turns):
        events += _turn(draw, at + timedelta(seconds=20 * number), number)
    last = at + timedelta(seconds=20 * max(0, turns - 1))
    metadata = {"title": title} if title is not None else {}
    metadata["last_activated_at"] = timestamp(last)
    config = {
        "inherit": False,
        "assistant": {"name": f"assistant {seed}", "instructions": [_sentence(draw) for _ in range(3)], "model": {}},
        "conversation": {"tools": {tool: {"enable": draw.random() < 0.5} for tool in _TOOLS}},
    }
    return {METADATA: as_jp(metadata), BASE_CONFIG: as_jp(config), EVENTS: as_jp(events)}


def append_turn(events: bytes, n: int) -> bytes:
    """`events` with one more turn, byte for byte what JP would write: everything before stays as it is."""
    if not events.endswith(_END) and events != b"[]\n":
        raise ValueError("not an event stream in JP's form")
    stamps = _TIMESTAMP.findall(events)
    at = datetime.fromisoformat(stamps[-1].decode()) if stamps else _created(10_000_000_000)
    turn = _turn(random.Random(n), at + timedelta(seconds=1), n)  # noqa: S311  # see above
    added = as_jp(turn)
    if events == b"[]\n":
        return added
    return events.removesuffix(_END) + b"," + added.removeprefix(b"[")


def retitled(metadata: bytes, title: str) -> bytes:
    """`metadata` with another title, which JP writes first."""
    fields = json.loads(metadata)
    fields.pop("title", None)
    return as_jp({"title": title} | fields)


def as_jp(value: Any) -> bytes:
    """JSON in the one form JP writes (contract 4.1)."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def timestamp(at: datetime) -> str:
    """A time in the form of JP's files (contract 4.2)."""
    fraction = f"{at.microsecond:06}".rstrip("0") or "0"
    return f"{at:%Y-%m-%d %H:%M:%S}.{fraction}"


def faults(files: Mapping[str, bytes]) -> list[str]:
    """What is wrong with the three files; nothing when JP could load them."""
    checked = (
        check_metadata(files[METADATA]),
        check_base_config(files[BASE_CONFIG]),
        check_events(files[EVENTS], packed=False),
    )
    return [fault for fault in checked if fault]


def conversations_below(directory: str) -> dict[int, Sample]:
    """Usable three-file conversations anywhere below `directory`, by id; of several versions the last by path.

    Where a directory is a numbered version inside the conversation's own, the longer number is the id.
    """
    found: dict[int, Sample] = {}
    above = os.path.dirname(os.path.abspath(directory))
    for at, dirs, names in os.walk(os.path.abspath(directory)):
        dirs.sort()
        if not set(MANAGED) <= set(names):
            continue
        ids = [(c, part) for part in os.path.relpath(at, above).split(os.sep) if (c := parse_dirname(part)) is not None]
        files = {name: _read(os.path.join(at, name)) for name in WRITE_ORDER}
        if ids and not faults(files) and files[EVENTS].endswith(_END):
            cid, name = max(ids)
            found[cid] = Sample(name, files)
    return found


# -- JP's ways of writing -------------------------------------------------------


def write_as_jp(directory: str, files: Mapping[str, bytes]) -> list[str]:
    """Write as JP does: metadata, base config, events, each by `<file>.tmp` and a rename, equal bytes skipped.

    Returns the names of the files that were written.
    """
    os.makedirs(directory, exist_ok=True)
    written = []
    for name in (n for n in WRITE_ORDER if n in files):
        path = os.path.join(directory, name)
        with contextlib.suppress(FileNotFoundError):
            if _read(path) == files[name]:
                continue
        with open(path + ".tmp", "wb") as file:
            file.write(files[name])
        os.rename(path + ".tmp", path)
        written.append(name)
    return written


@contextmanager
def locked_as_jp(silo: str, cid: int) -> Iterator[None]:
    """Hold the conversation's lock as a running JP does; released as JP does, close first, then unlink."""
    path = lock_path(silo, cid)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = {"pid": os.getpid(), "session": SESSION, "acquired_at": datetime.now(UTC).isoformat()}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(said, separators=(",", ":")).encode(), 0)
        yield
    finally:
        os.close(fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


# -- parts ------------------------------------------------------------------------


def _turn(draw: random.Random, at: datetime, number: int) -> list[dict[str, Any]]:
    """A question, a thought, every other time a tool, every fifth time another model, and an answer."""
    clock = iter(timestamp(at + timedelta(microseconds=731_003 * n)) for n in range(8))
    events: list[dict[str, Any]] = [
        {"timestamp": next(clock), "type": "turn_start"},
        {"timestamp": next(clock), "type": "chat_request", "content": f"Turn {number}: {_sentence(draw)}"},
        {
            "timestamp": next(clock),
            "type": "chat_response",
            "reasoning": _sentence(draw),
            "metadata": {"signature": _base64(f"{draw.getrandbits(128):032x}")},
        },
    ]
    if number % 5 == 4:
        delta = {"assistant": {"model": {"id": f"model-{draw.randrange(9)}"}}}
        events.append({"type": "config_delta", "timestamp": next(clock), "delta": delta})
    if number % 2 == 0:
        call = f"call_{draw.getrandbits(64):016x}"
        lines = "\n".join(_sentence(draw) for _ in range(draw.randrange(2, 12)))
        events += [
            {
                "timestamp": next(clock),
                "type": "tool_call_request",
                "id": call,
                "name": draw.choice(_TOOLS),
                "arguments": {"path": _base64(f"src/part_{draw.randrange(99)}.txt"), "lines": [1, 40]},
            },
            {
                "timestamp": next(clock),
                "type": "tool_call_response",
                "id": call,
                "content": _base64(lines),
                "is_error": False,
            },
        ]
    answer = "\n\n".join(_sentence(draw) for _ in range(draw.randrange(1, 9)))
    events.append({"timestamp": next(clock), "type": "chat_response", "message": answer})
    return events


def _sentence(draw: random.Random) -> str:
    return f"{draw.choice(_SUBJECTS)} {draw.choice(_VERBS)} {draw.choice(_OBJECTS)}."


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _created(cid: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=created_ms(cid))


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
