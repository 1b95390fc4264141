"""Copies read for showing: the newest file of its unit, as JP would load it, and what of it is shown.

Lenient and cheap: what cannot be read shows as empty, and a stream is parsed only as far as its layout asks.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple, Self

from convsync_agent import fs, layout
from convsync_agent.model import EVENTS, METADATA, METADATA_FILES, STREAM_FILES, Partition, Root
from convsync_agent.scan import Place
from convsync_agent.strict_json import NotJson, parse
from convsync_agent.summary import Metadata, Summary, parse_metadata, parse_timestamp, summarise_events

TRIES = 5
_OPEN, _CLOSE = b"\n  {\n", b"\n  }"


class Spot(NamedTuple):
    """Where one copy lies. `worktree` is '' for the silo."""

    root: Root
    worktree: str
    place: Place

    @property
    def partition(self) -> Partition:
        return Partition.ARCHIVED if self.place.archived else Partition.LIVE

    @property
    def path(self) -> str:
        return layout.copy_path(self.root, self.partition, self.place.name)


class Shelf:
    """Reads copies leniently: what cannot be read shows as empty, nothing raises. Keeps partitions open."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._partitions: dict[tuple[str, bool], int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def summary(self, spots: Sequence[Spot]) -> Summary:
        return glance(self._newest(spots, STREAM_FILES, EVENTS))

    def first_request(self, spots: Sequence[Spot]) -> str | None:
        return first_request(self._newest(spots, STREAM_FILES, EVENTS))

    def metadata(self, spots: Sequence[Spot]) -> Metadata:
        return parse_metadata(self._newest(spots, METADATA_FILES, METADATA))

    def _newest(self, spots: Sequence[Spot], names: tuple[str, ...], wanted: str) -> bytes:
        """One file of the copy whose unit is the newest, ties to the silo (contract 5.2)."""
        rivals = list(spots)
        if len(rivals) > 1:
            rivals.sort(key=lambda s: (-self._mtime(s, names), s.root.order))
        return self._read(rivals[0], wanted) if rivals else b""

    def _mtime(self, spot: Spot, names: tuple[str, ...]) -> int:
        newest = 0
        part = self._partition(spot)
        for name in names if part is not None else ():
            try:
                newest = max(
                    newest, os.stat(f"{spot.place.name}/{name}", dir_fd=part, follow_symlinks=False).st_mtime_ns
                )
            except OSError:
                continue
        return newest

    def _read(self, spot: Spot, name: str) -> bytes:
        part = self._partition(spot)
        for _ in range(TRIES if part is not None else 0):
            try:
                with fs.opened_dir(spot.place.name, dir_fd=part) as fd:
                    return fs.read_file(name, fd)[0]
            except fs.ChangedError:
                continue
            except (OSError, fs.OddFileError):
                break
        return b""

    def _partition(self, spot: Spot) -> int | None:
        key = (spot.root.path, spot.place.archived)
        if key not in self._partitions:
            try:
                opened = fs.opened_partition(spot.root.path, archived=spot.place.archived)
                self._partitions[key] = self._stack.enter_context(opened)
            except OSError:
                return None
        return self._partitions[key]


def glance(raw: bytes) -> Summary:
    """Count and last time of a stream. Where it is laid out as JP writes it, only its last element is parsed.

    A raw line feed is never inside a string of valid JSON, so in that layout (contract 4.1) two blanks of
    indentation are an element's and four are its keys'. Anything else is parsed.
    """
    number = raw.count(_OPEN)
    plain = raw.startswith(b"[\n  {\n") and raw.endswith(b"\n  }\n]\n")
    if plain and number == raw.count(_CLOSE) == raw.count(b'\n    "timestamp": '):
        try:
            last = parse(raw[raw.rfind(_OPEN) + 3 : -3])
        except NotJson:
            return summarise_events(raw)
        at = last.get("timestamp") if isinstance(last, dict) else None
        ns = parse_timestamp(at) if isinstance(at, str) else None
        return Summary(number, None if ns is None else ns // 1_000_000)
    return summarise_events(raw)


def first_request(raw: bytes) -> str | None:
    """The first question of a stream, found without parsing what comes after it where the layout allows."""
    at = raw.find(b'\n    "type": "chat_request"')
    start, end = raw.rfind(_OPEN, 0, max(at, 0) + 1), raw.find(_CLOSE, max(at, 0))
    if raw.startswith(b"[\n  {\n") and 0 <= start < at < end:
        try:
            event = parse(raw[start + 3 : end + 4])
        except NotJson:
            event = None
        if isinstance(event, dict) and isinstance(event.get("content"), str):
            return str(event["content"])
    return summarise_events(raw).first_request
