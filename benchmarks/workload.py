"""The conversations that are measured: JP's own shape, valid, sizes as in life."""

from __future__ import annotations

import base64
import json
import math
import os
import random
from dataclasses import dataclass, field

from benchmarks.machines import lay_out
from convsync_agent import sample
from convsync_agent.names import dirname, parse_dirname

EVENTS = "events.json"
METADATA = "metadata.json"
SMALL = 40  # conversations of a given small size, for the latencies; a quarter of all at most
SMALL_BYTES = 10 << 10
BASE_BYTES = 20 << 10
CAP = 4 << 20
FIRST_ID = 17_000_000_000
FILES = ("base_config.json", EVENTS, METADATA)
LARGE = 5000  # conversations; from here on smaller ones, or the trees alone would take 25 GB
SCALE = 0.1  # the part of a real stream that is kept then


@dataclass
class Workload:
    """`count` conversations: directory names in order, the first ones small. The same bytes in every run.

    `real`: all but the small ones are real conversations where those can be had; else their sizes are log-normal, with
    the median and the 95th percentile of real ones. `names` are those that were written last.
    """

    count: int
    real: bool = True
    alike: bool = False  # every one is small
    median: int = 0
    p95: int = 0
    source: str = "generated"
    names: list[str] = field(default_factory=list)
    _long: list[bytes] = field(default_factory=list)
    _short: list[bytes] = field(default_factory=list)
    _filler: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.median, self.p95 = (8 << 10, 136 << 10) if self.count > LARGE else (60 << 10, 1 << 20)
        self.names = [self.name(n) for n in range(self.count)]
        draw = random.Random(2)
        events = json.loads(sample.conversation(1, cid=FIRST_ID, title=None, turns=400)[EVENTS])
        self._short = _turns(events)
        self._long = _turns([_as_long_as_in_life(e, draw) for e in events])
        while sum(map(len, self._filler)) < BASE_BYTES - 900:
            self._filler.append(" ".join(f"rule {draw.randrange(10**6)} holds" for _ in range(30)) + ".")

    @staticmethod
    def name(number: int) -> str:
        slugs = ("fix-parser", "add-tests", "refactor-store", "docs", "release-notes", "why-is-ci-red")
        return f"{FIRST_ID + 10 * number}-{slugs[number % len(slugs)]}"

    @property
    def few(self) -> int:
        """How many small ones there are."""
        return self.count if self.alike else min(SMALL, max(1, self.count // 4))

    @property
    def small(self) -> list[str]:
        return self.names[: self.few]

    def size(self, number: int) -> int:
        if number < self.few:
            return SMALL_BYTES
        sigma = math.log(self.p95 / self.median) / 1.6449
        return min(CAP, round(random.Random(number).lognormvariate(math.log(self.median), sigma)))

    def files(self, number: int) -> dict[str, bytes]:
        """The three managed files of one conversation."""
        cid = FIRST_ID + 10 * number
        files = sample.conversation(number, cid=cid, title=f"conversation {number}", turns=1)
        config = json.loads(files["base_config.json"])
        config["assistant"]["instructions"] += self._filler
        parts = [files[EVENTS].removeprefix(b"[\n").removesuffix(b"\n]\n")]
        have, at = len(parts[0]), random.Random(-number).randrange(len(self._long))
        while have < self.size(number):
            turn = self._long[at % len(self._long)]
            if have + len(turn) > self.size(number):
                turn = self._short[at % len(self._short)]
            parts.append(turn)
            have += len(turn)
            at += 1
        return files | {"base_config.json": sample.as_jp(config), EVENTS: b"[\n" + b",\n".join(parts) + b"\n]\n"}

    def write(self, directory: str) -> int:
        """Write the whole tree; its bytes."""
        os.makedirs(directory)
        more = self.count - self.few
        made = lay_out(directory + ".real", more, SCALE if self.count > LARGE else 1.0) if self.real and more else None
        self.names = [self.name(n) for n in range(self.few if made else self.count)]
        for number, name in enumerate(self.names):
            os.mkdir(f"{directory}/{name}")
            for file, raw in self.files(number).items():
                with open(f"{directory}/{name}/{file}", "wb") as out:
                    out.write(raw)
        if made:
            self.source, found = "real", sorted(os.listdir(made))
            for name in found:
                os.rename(f"{made}/{name}", f"{directory}/{name}")
            self.names += found
        return sum(os.path.getsize(f"{at}/{f}") for at, _, files in os.walk(directory) for f in files)

    def turn(self, number: int, *, long: bool = True) -> bytes:
        """One turn as it stands in a file, without the brackets around all of them."""
        turns = self._long if long else self._short
        return turns[number % len(turns)]


def _as_long_as_in_life(event: dict, draw: random.Random) -> dict:
    """Real events hold 7 KB each, most of it answers, thoughts with their signatures, and results of tools."""
    for name, median in (("message", 4000), ("reasoning", 2000), ("content", 1500)):
        if name in event:
            event[name] += _text(draw, round(draw.lognormvariate(math.log(median), 1.2)))
    if "metadata" in event:
        event["metadata"]["signature"] = base64.b64encode(draw.randbytes(900)).decode()
    if event["type"] == "tool_call_response":
        event["content"] = base64.b64encode(event["content"].encode()).decode()
    return event


def _text(draw: random.Random, size: int) -> str:
    """Prose and code, with the quotes, line feeds and letters that JSON has to treat."""
    words = ("the", "index", "returns", "a", "retry", "of", "café", "時計", "\n", '"name":', "None,", "{", "}", "list")
    return " ".join(draw.choices(words, weights=(9, 5, 4, 8, 3, 7, 1, 1, 3, 1, 2, 1, 1, 3), k=size // 5))


def _turns(events: list[dict]) -> list[bytes]:
    """Whole turns as they stand in a file, without the brackets around all of them."""
    turns: list[list[dict]] = []
    for event in events:
        if event["type"] == "turn_start":
            turns.append([])
        turns[-1].append(event)
    return [sample.as_jp(t).removeprefix(b"[\n").removesuffix(b"\n]\n") for t in turns]


def appended(raw: bytes, number: int) -> bytes:
    """One more turn, everything before byte for byte as it was."""
    return sample.append_turn(raw, number)


def edited(raw: bytes, number: int) -> bytes:
    """Another first question: not an append, so what was there before must be kept first."""
    head, found, rest = raw.partition(b'"content": "')
    if not found:
        raise ValueError("no question in it")
    return head + found + b"(%d) " % number + rest


def rewritten(raw: bytes, number: int) -> bytes:
    """A field of the first event changed and one more turn: not an append, whatever the first event is."""
    head, mark = b"[\n  {\n", b'    "edited": '
    if not raw.startswith(head):
        raise ValueError("not an event stream in JP's form")
    rest = raw.removeprefix(head)
    if rest.startswith(mark):
        rest = rest.partition(b"\n")[2]
    return appended(head + mark + b"%d,\n" % number + rest, number)


def retimed(raw: bytes, number: int) -> bytes:
    """Metadata as a turn leaves it: activated later, nothing else changed."""
    fields = json.loads(raw)
    fields["last_activated_at"] = f"2030-01-01 00:00:00.{number + 1:06d}"
    return sample.as_jp(fields)


def retitled(name: str, raw: bytes, number: int) -> tuple[str, bytes]:
    """The directory name and the metadata that JP writes when the title has become another one."""
    title = f"another title {number}"
    return dirname(parse_dirname(name) or 0, title), sample.retitled(raw, title)


def put(path: str, raw: bytes) -> None:
    """The writing half of what JP does; the caller renames `<path>.tmp`."""
    with open(path + ".tmp", "wb", buffering=0) as file:
        file.write(raw)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def files_of(directory: str) -> dict[str, bytes]:
    """The managed files that a conversation has: an old one has no `base_config.json`."""
    return {f: read(f"{directory}/{f}") for f in FILES if os.path.exists(f"{directory}/{f}")}
