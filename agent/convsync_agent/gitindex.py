"""What git's index says of the files it holds: a small reader of versions 2, 3 and 4 (gitformat-index).

Only reads, and only what the evidence of design 3 needs: the stat that git noted of each file, and the
id of its content. SHA-1 and SHA-256 repositories are told apart by the checksum at the end.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import NamedTuple

_HEADER = struct.Struct(">4sII")
_EXTENSION = struct.Struct(">4sI")
_STAT = struct.Struct(">II4xI12xI")  # mtime s, ns, (device), inode, (mode, uid, gid), size; after the ctime
_FLAGS = struct.Struct(">H")
_STAT_AT, _ID_AT = 8, 40
_LENGTH, _STAGE, _EXTENDED = 0xFFF, 0x3000, 0x4000
_SPECIAL = _STAGE | _EXTENDED
_INTENT_TO_ADD = 0x2000  # of the second flags
_VERSIONS = (2, 3, 4)
_UNDERSTOOD = frozenset({b"sdir"})  # of the extensions that one must understand (gitformat-index)

SHA1, SHA256 = 20, 32


class NotReadableError(ValueError):
    """An index that says nothing: damaged, split, or of a kind that is not known. The text says which."""


class Entry(NamedTuple):
    """What git noted of one file. Each number is modulo 2**32; 0 is "not noted". `blob`: id of the content."""

    mtime_s: int
    mtime_ns: int
    inode: int
    size: int
    blob: bytes


class Index:
    """Entries by path, as bytes, relative to the top of the worktree. Packed: there may be very many."""

    __slots__ = ("_packed",)

    def __init__(self, packed: dict[bytes, bytes]) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed)

    def entry(self, path: bytes) -> Entry | None:
        packed = self._packed.get(path)
        if packed is None:
            return None
        mtime_s, mtime_ns, inode, size = _STAT.unpack_from(packed)
        return Entry(mtime_s, mtime_ns, inode, size, packed[_ID_AT - _STAT_AT :])

    def paths(self) -> list[bytes]:
        return list(self._packed)


def parse(raw: bytes, prefix: bytes = b"") -> Index:
    """The entries whose path begins with `prefix`. Raises `NotReadableError`, and nothing else.

    Left out is what says nothing about a file: the sides of a conflict (stages 1 to 3: git notes no stat
    for them) and intent-to-add (`git add -N` has looked at no content). What a sparse index holds as a
    directory ends in a slash and is nobody's path. An entry with skip-worktree or assume-unchanged counts:
    if it has the file's stat, git has seen that file.
    A split index (`link`) is not readable: most of it lies in another file. Extensions that may be ignored are.
    """
    if len(raw) < _HEADER.size + SHA1:
        raise NotReadableError("cut off")
    mark, version, count = _HEADER.unpack_from(raw)
    if mark != b"DIRC":
        raise NotReadableError("no index")
    if version not in _VERSIONS:
        raise NotReadableError("of an unknown version")
    walk = _walk_packed if version == 4 else _walk_padded
    damage = NotReadableError("damaged")
    for width in _id_widths(raw):
        try:
            return _body(raw[: len(raw) - width], count, width, prefix, walk)
        except (IndexError, ValueError, struct.error) as error:
            damage = error if isinstance(error, NotReadableError) else damage
    raise damage


def _id_widths(raw: bytes) -> tuple[int, ...]:
    """The bytes of an object id that the checksum allows. Zeros (`index.skipHash`) allow both: one fits, then."""
    if hashlib.sha1(raw[:-SHA1], usedforsecurity=False).digest() == raw[-SHA1:]:
        return (SHA1,)
    if hashlib.sha256(raw[:-SHA256]).digest() == raw[-SHA256:]:
        return (SHA256,)
    return (SHA1, SHA256) if raw.endswith(bytes(SHA1)) else ()


_Found = dict[bytes, bytes]
_Walk = Callable[[bytes, int, int, bytes, _Found], int]


def _body(body: bytes, count: int, width: int, prefix: bytes, walk: _Walk) -> Index:
    found: _Found = {}
    at = walk(body, count, width, prefix, found)
    while at < len(body):
        mark, size = _EXTENSION.unpack_from(body, at)
        if mark == b"link":
            raise NotReadableError("split")
        if not b"A" <= mark[:1] <= b"Z" and mark not in _UNDERSTOOD:
            raise NotReadableError("of an unknown kind")
        at += _EXTENSION.size + size
    if at != len(body):
        raise NotReadableError("damaged")
    return Index(found)


def _walk_padded(body: bytes, count: int, width: int, prefix: bytes, found: _Found) -> int:
    """Versions 2 and 3: whole paths, each entry NUL-padded to a multiple of eight. Returns where they end."""
    at, fixed, flags_of = _HEADER.size, _ID_AT + width + 2, _FLAGS.unpack_from
    for _ in range(count):
        start = at + fixed
        flags = flags_of(body, start - 2)[0]
        if flags & _EXTENDED:
            start += 2
        length = flags & _LENGTH
        end = start + length if length < _LENGTH else body.index(0, start + _LENGTH)
        if body[end]:
            raise NotReadableError("damaged")
        if body.startswith(prefix, start) and (not flags & _SPECIAL or _of_a_file(body, at + fixed, flags)):
            found[body[start:end]] = body[at + _STAT_AT : at + fixed - 2]
        at += (end - at + 8) & ~7
    return at


def _walk_packed(body: bytes, count: int, width: int, prefix: bytes, found: _Found) -> int:
    """Version 4: a path is what it adds to the one before, less a number of bytes. Returns where they end."""
    at, fixed, flags_of, path = _HEADER.size, _ID_AT + width + 2, _FLAGS.unpack_from, b""
    for _ in range(count):
        start = at + fixed
        flags = flags_of(body, start - 2)[0]
        if flags & _EXTENDED:
            start += 2
        strip, byte = 0, 0x80
        while byte & 0x80:
            byte = body[start]
            start += 1
            strip = (strip << 7) + (byte & 0x7F)
            if byte & 0x80:
                strip += 1  # git's offset varint: no number has two spellings
            if strip > len(path):
                raise NotReadableError("damaged")
        end = body.index(0, start)
        path = path[: len(path) - strip] + body[start:end]
        if path.startswith(prefix) and (not flags & _SPECIAL or _of_a_file(body, at + fixed, flags)):
            found[path] = body[at + _STAT_AT : at + fixed - 2]
        at = end + 1
    return at


def _of_a_file(body: bytes, second_at: int, flags: int) -> bool:
    """False for a side of a conflict and for intent-to-add."""
    second = _FLAGS.unpack_from(body, second_at)[0] if flags & _EXTENDED else 0
    return not flags & _STAGE and not second & _INTENT_TO_ADD
