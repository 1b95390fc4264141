"""Streams that are large, because what counts as large is made small."""

from __future__ import annotations

from changes import C
from machine import LONG_AGO, as_jp, event

LARGE, PIECE = 300, 37
LATER = LONG_AGO + 3_600_000_000_000


def stream(*words) -> bytes:
    return as_jp([event(f"{word} " * 30) for word in words])


def at(world, name, conversation=C):
    return world.directory(world.base / name if name != "silo" else world.silo(), conversation)
