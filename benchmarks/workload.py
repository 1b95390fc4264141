"""The conversations that are measured: JP's own shape, valid, sizes as in life (log-normal)."""

from __future__ import annotations

import base64
import json
import math
import os
import random
from dataclasses import dataclass, field

from convsync_agent import sample

EVENTS = "events.json"
SMALL = 40  # conversations of a given small size, for the latencies
SMALL_BYTES = 10 << 10
BASE_BYTES = 20 << 10
CAP = 4 << 20
FIRST_ID = 17_000_000_000
FILES = ("base_config.json", EVENTS, "metadata.json")


@dataclass
class Workload:
    """`count` conversations: directory names in order, the first ones small. The same bytes on every machine."""

    count: int
    median: int = 0
    p95: int = 0
    _long: list[bytes] = field(default_factory=list)
    _short: list[bytes] = field(default_factory=list)
    _filler: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        many = self.count > 5000  # smaller ones then, or the tree alone would be 2 GB
        self.median, self.p95 = (8 << 10, 136 << 10) if many else (60 << 10, 1 << 20)
        draw = random.Random(2)
        events = json.loads(sample.conversation(1, cid=FIRST_ID, title=None, turns=400)[EVENTS])
        self._short = _turns(events)
        self._long = _turns([_as_long_as_in_life(e, draw) for e in events])
        while sum(map(len, self._filler)) < BASE_BYTES - 900:
            self._filler.append(" ".join(f"rule {draw.randrange(10**6)} holds" for _ in range(30)) + ".")

    @property
    def names(self) -> list[str]:
        slugs = ("fix-parser", "add-tests", "refactor-store", "docs", "release-notes", "why-is-ci-red")
        return [f"{FIRST_ID + 10 * i}-{slugs[i % len(slugs)]}" for i in range(self.count)]

    @property
    def small(self) -> list[str]:
        return self.names[:SMALL]

    def size(self, number: int) -> int:
        if number < SMALL:
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
        total = 0
        for number, name in enumerate(self.names):
            files = self.files(number)
            os.makedirs(f"{directory}/{name}")
            for file, raw in files.items():
                with open(f"{directory}/{name}/{file}", "wb") as out:
                    out.write(raw)
                total += len(raw)
        return total


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


def retimed(raw: bytes, number: int) -> bytes:
    """Metadata as a turn leaves it: activated later, nothing else changed."""
    fields = json.loads(raw)
    fields["last_activated_at"] = f"2030-01-01 00:00:00.{number + 1:06d}"
    return sample.as_jp(fields)


def put(path: str, raw: bytes) -> None:
    """The writing half of what JP does; the caller renames `<path>.tmp`."""
    with open(path + ".tmp", "wb", buffering=0) as file:
        file.write(raw)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
