"""The history: content that would else be lost, compressed, once per conversation, self-describing.

    <data_dir>/history/<workspace>/<jp-cID>/objects/<digest>.gz      the content of one file
    <data_dir>/history/<workspace>/<jp-cID>/<version>/manifest.json  what was kept, when, from where, why

Laws: when `keep` returns, the content is durable. A crash leaves a complete version or garbage: dot names
and objects without a manifest, which nothing reads and `sweep` clears. Versions of a unit are in the order of
keeping, also when the clock went back. Paths hold ids only (R9). An `OSError` comes out as it is.

No lock is needed: who removes an object puts it aside first and looks at the manifests again; who publishes
a manifest looks at its objects again. One of the two sees the other.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from convsync_agent import kernel, rules
from convsync_agent.digest import content_digest
from convsync_agent.errors import NotFound, StorageProblem, UsageProblem, storage_problem
from convsync_agent.model import UNIT_FILES, Digest, Unit
from convsync_agent.names import id_text, parse_id
from convsync_agent.plan import Problem

_T = TypeVar("_T")

SCHEMA = 1
OBJECTS, MANIFEST, README = "objects", "manifest.json", "README"
_TEMP, _ASIDE = ".tmp-", ".out-"
_VERSION = re.compile(r"([0-9]{1,15})-(stream|metadata|extras)-[0-9a-f]{8}")
_HEX = re.compile(r"[0-9a-f]{32}")
_WORKSPACE = re.compile(r"[0-9a-z]{1,64}")
_OBJECT = re.compile(r"[0-9a-f]{32}\.gz")
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_GZIP = 31  # zlib's word for gzip framing; it writes mtime 0
_CHUNK = 1 << 20
_LAST_NS = 9 * 10**18  # what fits 64 bits
_README_TEXT = b"""\
convsync keeps here what an overwrite would have lost. Look with `convsync history`, bring back with
`convsync restore`. Without convsync: <workspace>/<conversation>/<version>/manifest.json lists the files of a
version; the content of each is <workspace>/<conversation>/objects/<digest>.gz (gzip).
"""


class KeptFile(NamedTuple):
    name: str
    digest: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One kept version. `root` is where it was; `seen_ms` when the same content was last kept again."""

    workspace: str
    conversation: int
    unit: Unit
    version: str
    root: str
    at_ms: int
    why: str
    valid: bool
    events: int | None
    files: tuple[KeptFile, ...]
    seen_ms: int = 0

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    @property
    def digest(self) -> Digest:
        """The content as `UnitCopy.digest` has it: in the fixed order of the unit, None for an absent file."""
        have = {f.name: bytes.fromhex(f.digest) for f in self.files}
        return tuple(have.get(n) for n in UNIT_FILES.get(self.unit, tuple(have)))


class Kept(NamedTuple):
    version: str
    new: bool


class Pruned(NamedTuple):
    versions: int
    bytes: int


class Listing(NamedTuple):
    """Every readable version, newest first, and what could not be read. `refs` None: what is needed is not known."""

    versions: list[Manifest]
    problems: list[Problem]
    refs: frozenset[str] | None


class History:
    def __init__(self, data_dir: str) -> None:
        self.data_dir = os.path.abspath(data_dir)
        self.base = os.path.join(self.data_dir, "history")
        self._durable: set[str] = set()

    # -- keeping ----------------------------------------------------------

    def keep(
        self,
        workspace: str,
        conversation: int,
        unit: Unit,
        files: Sequence[tuple[str, bytes, int]],
        *,
        root: str,
        at_ms: int,
        why: str,
        valid: bool,
        events: int | None,
    ) -> Kept:
        """Make (name, content, mtime) of one unit durable. Content equal to the newest version makes no new one.

        The age of an equal newest version starts anew, so retention counts from the last time it was kept.
        """
        contents = sorted(files, key=lambda f: f[0])
        listed = tuple(KeptFile(n, content_digest(raw).hex(), len(raw), mtime) for n, raw, mtime in contents)
        if unit is Unit.ALL or not listed or not _sound_names([f.name for f in listed]):
            raise ValueError("a version is one unit with at least one file, by relative names")
        place = self._place(workspace, conversation)
        objects = os.path.join(place, OBJECTS)
        self._settle(place)
        for entry, (_, raw, _) in zip(listed, contents, strict=True):
            _store(place, entry, raw)
        _sync_dir(objects)
        newest, last_ms = self._newest(workspace, conversation, unit)
        if newest and [f[:3] for f in newest.files] == [f[:3] for f in listed]:
            with contextlib.suppress(FileNotFoundError):  # pruned at this moment: then it is kept anew
                _set_age(os.path.join(place, newest.version, MANIFEST), max(at_ms, newest.seen_ms))
                _sync_dir(place)
                return Kept(newest.version, new=False)
        manifest = Manifest(
            workspace, conversation, unit, "", root, max(at_ms, last_ms + 1), why, valid, events, listed
        )
        version = _publish(place, manifest)
        for entry, (_, raw, _) in zip(listed, contents, strict=True):
            if not _intact(place, entry):  # removed while no manifest asked for it
                _store(place, entry, raw)
                _sync_dir(objects)
        return Kept(version, new=True)

    def _newest(self, workspace: str, conversation: int, unit: Unit) -> tuple[Manifest | None, int]:
        """The newest readable version of a unit, and the last time that any version of it has."""
        found = (_VERSION.fullmatch(n) for n in _names(self._place(workspace, conversation)))
        of_unit = sorted(((int(m[1]), m[0]) for m in found if m and m[2] == unit), reverse=True)
        for _, name in of_unit:
            with contextlib.suppress(OSError, ValueError):
                newest = self._manifest(workspace, conversation, name)
                return newest, max(of_unit[0][0], newest.seen_ms)
        return None, of_unit[0][0] if of_unit else -1

    def _settle(self, place: str) -> None:
        """Make the directories down to `objects`, private and durable.

        One that is there is synced once as well: who made it may have died before doing so.
        """
        paths = [self.data_dir, self.base, os.path.dirname(place), place, os.path.join(place, OBJECTS)]
        while not os.path.isdir(parent := os.path.dirname(paths[0])):
            paths.insert(0, parent)
        for path in paths:
            if path in self._durable and os.path.isdir(path):
                continue
            made = _make_dir(path, ours=path.startswith(self.base))
            try:
                _sync_dir(os.path.dirname(path))
            except PermissionError:  # above the data directory, and not made by us
                if made or path.startswith(self.base):
                    raise
            if path == self.base and not os.path.exists(os.path.join(path, README)):
                _write(os.path.join(path, README), [_README_TEXT])
            self._durable.add(path)

    # -- asking -----------------------------------------------------------

    def versions(self, workspace: str, conversation: int) -> list[Manifest]:
        """Every readable version, newest first."""
        return self.look(workspace, conversation).versions

    def problems(self, workspace: str, conversation: int) -> list[Problem]:
        """What lies among the versions and cannot be read. It is never touched."""
        return self.look(workspace, conversation).problems

    def look(self, workspace: str, conversation: int) -> Listing:
        place = self._place(workspace, conversation)
        versions: list[Manifest] = []
        problems: list[Problem] = []
        for name in _names(place):
            if name.startswith(".") or name == OBJECTS:
                continue
            try:
                versions.append(self._manifest(workspace, conversation, name))
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and not os.path.lexists(os.path.join(place, name)):
                    continue  # pruned at this moment
                what = f"version {name}" if _VERSION.fullmatch(name) else "an entry of another name"
                why = "unreadable" if isinstance(error, OSError) else str(error)
                problems.append(Problem("io", conversation, None, f"history: {what} is {why}, left as it is"))
        versions.sort(key=lambda m: (m.at_ms, m.version), reverse=True)
        refs = None if problems else frozenset(f.digest for m in versions for f in m.files)
        return Listing(versions, sorted(problems, key=lambda p: p.detail), refs)

    def read(self, workspace: str, conversation: int, version: str) -> list[tuple[str, bytes, int]]:
        """(name, content, mtime) of every file of a version, checked. Raises NotFound, StorageProblem."""
        place = self._place(workspace, conversation)
        where = id_text(conversation)
        path = os.path.join(place, version)
        if not _VERSION.fullmatch(version) or not os.path.lexists(path):
            raise NotFound("no such version", where=where, hint=f"convsync history {where}")
        files = []
        try:
            for entry in self._manifest(workspace, conversation, version).files:
                content = io.BytesIO()
                for piece in _pieces(_object(place, entry.digest)):
                    content.write(piece)
                if content_digest(content.getbuffer()).hex() != entry.digest:
                    raise ValueError("damaged")
                files.append((entry.name, content.getvalue(), entry.mtime_ns))
        except OSError as error:
            raise storage_problem(error, path, "read a kept version") from error
        except (ValueError, zlib.error) as error:
            reason = str(error) if isinstance(error, ValueError) else "damaged"
            raise StorageProblem(
                f"this kept version is {reason}", where=path, hint=f"convsync history {where}", code="io"
            ) from error
        return files

    def holds(self, workspace: str, conversation: int, unit: Unit, digests: Sequence[str | bytes]) -> bool:
        """The content is there and durable: one version of this unit has these files and no others.

        Objects are looked at, not read through: a flipped bit is found by `read` and mended by `keep`.
        """
        wanted = sorted(_hex(d) for d in digests)
        return self._has(
            workspace,
            conversation,
            lambda m: m.files if m.unit is unit and sorted(f.digest for f in m.files) == wanted else (),
        )

    def has_content(self, workspace: str, conversation: int, raw_digest_hex: str | bytes) -> bool:
        """A file of this content belongs to some version, and is durable."""
        wanted = _hex(raw_digest_hex)
        if not os.path.exists(_object(self._place(workspace, conversation), wanted)):
            return False
        return self._has(workspace, conversation, lambda m: [f for f in m.files if f.digest == wanted])

    def _has(self, workspace: str, conversation: int, wanted: Callable[[Manifest], Sequence[KeptFile]]) -> bool:
        place = self._place(workspace, conversation)
        for manifest in self.versions(workspace, conversation):
            files = wanted(manifest)
            if files and all(_intact(place, f) for f in files):
                _sync_dir(os.path.join(place, OBJECTS))  # whoever published it may have died before it was durable
                _sync_dir(place)
                return True
        return False

    def conversations(self, workspace: str) -> list[int]:
        """Every conversation of a workspace that there is a place for."""
        return [conversation for _, conversation in self._conversations(workspace)]

    def size(self) -> int:
        """Bytes of everything in the history, as stored."""
        return sum(_size(os.path.join(top, n)) for top, _, names in os.walk(self.base) for n in names)

    # -- clearing ---------------------------------------------------------

    def prune(
        self,
        workspace: str | None,
        now_ms: int,
        *,
        keep_days: int,
        keep_versions: int,
        max_bytes: int,
        protected: Callable[[Manifest], bool] = lambda _: False,
    ) -> Pruned:
        """Apply the rules to one workspace or, with None, to all; then drop what no manifest needs any more."""
        found: dict[rules.Version, Manifest] = {}
        for space, conversation in self._conversations(workspace):
            place = self._place(space, conversation)
            counted: set[str] = set()  # the oldest go first, so an object counts for the newest that needs it
            for m in self.versions(space, conversation):
                digests = {f.digest for f in m.files} - counted
                counted |= digests
                size = sum(_size(_object(place, d)) for d in digests) + _size(os.path.join(place, m.version, MANIFEST))
                found[rules.Version(place, m.unit, m.version, m.seen_ms, size, protected(m))] = m
        going = rules.to_remove(found, now_ms, keep_days=keep_days, keep_versions=keep_versions, max_bytes=max_bytes)
        freed = sum(_discard(os.path.join(v.conversation, v.version)) for v in going)
        for space, conversation in sorted({(found[v].workspace, found[v].conversation) for v in going}):
            _sync_dir(self._place(space, conversation))  # no power failure brings back a manifest without objects
            freed += self._collect(space, conversation)[1]
        return Pruned(len(going), freed)

    def sweep(self) -> int:
        """Clear what a crash left. Returns how many names went. For the start, when nobody keeps.

        RACE: a `keep` at this moment in another process may lose its unfinished file. Worst case: it raises
        FileNotFoundError and is done again; it never returns without its content being there.
        """
        cleared = 0
        for space, conversation in self._conversations(None):
            place = self._place(space, conversation)
            for name in _names(place):
                if name.startswith(_TEMP):
                    _discard(os.path.join(place, name))
                    cleared += 1
            cleared += self._collect(space, conversation, unfinished=True)[0]
        for name in _names(self.base):
            if name.startswith(_TEMP):
                cleared += bool(_unlink(os.path.join(self.base, name)))
        return cleared

    def _collect(self, workspace: str, conversation: int, *, unfinished: bool = False) -> tuple[int, int]:
        """Remove objects that no manifest needs: (how many, bytes). None while a manifest cannot be read."""
        objects = os.path.join(self._place(workspace, conversation), OBJECTS)
        refs = self.look(workspace, conversation).refs
        gone = freed = 0
        aside: list[str] = []
        for name in _names(objects):
            if name.startswith(_TEMP) and unfinished:
                freed += _unlink(os.path.join(objects, name))
                gone += 1
            elif name.startswith(_ASIDE):
                aside.append(name.removeprefix(_ASIDE))
            elif _OBJECT.fullmatch(name) and refs is not None and name.removesuffix(".gz") not in refs:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(os.path.join(objects, name), os.path.join(objects, _ASIDE + name))
                    aside.append(name)
        refs = self.look(workspace, conversation).refs if aside else refs
        for name in aside:
            path = os.path.join(objects, _ASIDE + name)
            if refs is not None and name.removesuffix(".gz") not in refs:
                freed += _unlink(path)
                gone += 1
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(path, os.path.join(objects, name))
                    _sync_dir(objects)
        return gone, freed

    # -- where things are -------------------------------------------------

    def _place(self, workspace: str, conversation: int) -> str:
        if not _WORKSPACE.fullmatch(workspace):
            raise UsageProblem("not a workspace id")
        return os.path.join(self.base, workspace, id_text(conversation))

    def _conversations(self, workspace: str | None) -> list[tuple[str, int]]:
        spaces = _names(self.base) if workspace is None else [workspace]
        found = [
            (s, parse_id(n)) for s in spaces if _WORKSPACE.fullmatch(s) for n in _names(os.path.join(self.base, s))
        ]
        return sorted((s, c) for s, c in found if c is not None)

    def _manifest(self, workspace: str, conversation: int, name: str) -> Manifest:
        """Raises OSError, and ValueError whose text says in a word why not."""
        with open(os.path.join(self._place(workspace, conversation), name, MANIFEST), "rb") as file:
            written_ms = os.fstat(file.fileno()).st_mtime_ns // 1_000_000
            raw = file.read()
        try:
            data = json.loads(raw)
            schema = _typed(data, "schema", int)
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ValueError("damaged") from None
        if schema != SCHEMA:
            raise ValueError("of a schema that this convsync does not know")
        try:
            manifest = _parsed(data, name, written_ms)
        except (ValueError, KeyError, TypeError):
            raise ValueError("damaged") from None
        if (manifest.workspace, manifest.conversation) != (workspace, conversation):
            raise ValueError("of another conversation")
        return manifest


# -- manifests ----------------------------------------------------------------


def _as_json(m: Manifest) -> bytes:
    data = {
        "schema": SCHEMA,
        "workspace": m.workspace,
        "conversation": id_text(m.conversation),
        "unit": str(m.unit),
        "from": m.root,
        "at": m.at_ms,
        "why": m.why,
        "valid": m.valid,
        "events": m.events,
        "files": [f._asdict() for f in m.files],
    }
    return json.dumps(data, indent=1).encode() + b"\n"


def _parsed(data: dict[str, Any], version: str, written_ms: int) -> Manifest:
    kinds = {"name": str, "digest": str, "size": int, "mtime_ns": int}
    files = tuple(KeptFile(*(_typed(f, key, kind) for key, kind in kinds.items())) for f in data["files"])
    conversation, unit, at_ms = parse_id(_typed(data, "conversation", str)), Unit(data["unit"]), _typed(data, "at", int)
    sound = _sound_names([f.name for f in files]) and all(_HEX.fullmatch(f.digest) for f in files)
    name = _VERSION.fullmatch(version)
    if conversation is None or not sound or name is None or (int(name[1]), name[2]) != (at_ms, unit):
        raise ValueError
    return Manifest(
        workspace=_typed(data, "workspace", str),
        conversation=conversation,
        unit=unit,
        version=version,
        root=_typed(data, "from", str),
        at_ms=at_ms,
        why=_typed(data, "why", str),
        valid=_typed(data, "valid", bool),
        events=None if data["events"] is None else _typed(data, "events", int),
        files=files,
        seen_ms=max(at_ms, written_ms),
    )


def _typed(data: Any, key: str, kind: type[_T]) -> _T:
    value = data[key]
    if type(value) is not kind:
        raise TypeError
    return value


def _sound_names(names: Sequence[str]) -> bool:
    """Different relative names that stay below the conversation's directory."""
    parts = [p for n in names for p in n.split("/")]
    return len(set(names)) == len(names) > 0 and not any(p in {"", ".", ".."} or "\0" in p for p in parts)


def _publish(place: str, manifest: Manifest) -> str:
    """Put a manifest under a version of its own, built aside and renamed. A taken name: one ms later."""
    tag = content_digest(json.dumps([f[:2] for f in manifest.files]).encode()).hex()[:8]
    while True:
        version = f"{manifest.at_ms}-{manifest.unit}-{tag}"
        temp = _temp(place)
        try:
            _make_dir(temp)
            _write(os.path.join(temp, MANIFEST), [_as_json(manifest)])
            _set_age(os.path.join(temp, MANIFEST), manifest.at_ms)
            _sync_dir(temp)
            os.rename(temp, os.path.join(place, version))
        except BaseException as error:
            with contextlib.suppress(OSError):
                _discard(temp)
            if not isinstance(error, OSError) or error.errno not in _TAKEN:
                raise
            manifest = replace(manifest, at_ms=manifest.at_ms + 1)
        else:
            _sync_dir(place)
            return version


# -- objects ------------------------------------------------------------------


def _object(place: str, digest: str) -> str:
    return os.path.join(place, OBJECTS, digest + ".gz")


def _store(place: str, entry: KeptFile, raw: bytes) -> None:
    """An object that is there counts only if it gives back these very bytes; else it is written anew."""
    path = _object(place, entry.digest)
    at = 0
    with contextlib.suppress(OSError, zlib.error):
        for piece in _pieces(path):
            if not raw.startswith(piece, at):
                break
            at += len(piece)
        else:
            if at == len(raw):
                return
    _write(path, _compressed(raw))


def _compressed(raw: bytes) -> Iterator[bytes]:
    deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    view = memoryview(raw)
    for at in range(0, len(raw), _CHUNK):
        yield deflate.compress(view[at : at + _CHUNK])
    yield deflate.flush()


def _pieces(path: str) -> Iterator[bytes]:
    """The content of an object, piece by piece; zlib checks its sum at the end."""
    inflate = zlib.decompressobj(_GZIP)
    with open(path, "rb", buffering=0) as stored:
        while chunk := stored.read(1 << 16):
            yield inflate.decompress(chunk)
    if not inflate.eof:
        raise zlib.error("cut short")


def _intact(place: str, entry: KeptFile) -> bool:
    """The object is there and ends as content of this length does: a cheap look, `read` checks all of it."""
    try:
        with open(_object(place, entry.digest), "rb", buffering=0) as stored:
            stored.seek(-4, os.SEEK_END)
            return int.from_bytes(stored.read(4), "little") == entry.size & 0xFFFFFFFF
    except OSError:
        return False


def _hex(digest: str | bytes) -> str:
    return digest if isinstance(digest, str) else digest.hex()


# -- files of our own ---------------------------------------------------------


def _temp(directory: str) -> str:
    return os.path.join(directory, _TEMP + secrets.token_hex(8))


def _write(path: str, chunks: Iterable[bytes]) -> None:
    """A whole file under its name or none, its content durable; the name is once the directory is synced."""
    temp = _temp(os.path.dirname(path))
    try:
        with open(os.open(temp, _NEW, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)  # whatever the umask took away
            file.writelines(chunks)
            file.flush()
            kernel.fsync(file.fileno())
        os.rename(temp, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        raise


def _make_dir(path: str, *, ours: bool = True) -> bool:
    """Make a directory that only its owner may enter. True: it was not there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not ours or stat.S_IMODE(os.stat(path).st_mode) == 0o700:
            return False
        os.chmod(path, 0o700)
        return False
    os.chmod(path, 0o700)
    return True


def _sync_dir(path: str) -> None:
    fd = os.open(path, _DIR)
    try:
        kernel.fsync(fd)
    finally:
        os.close(fd)


def _set_age(path: str, ms: int) -> None:
    ns = min(ms * 1_000_000, _LAST_NS)
    os.utime(path, ns=(ns, ns))


def _discard(path: str) -> int:
    """Make a version vanish in one step, then free it. Returns the bytes freed."""
    aside = _temp(os.path.dirname(path))
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return 0
    freed = sum(_unlink(os.path.join(aside, n)) for n in _names(aside))
    os.rmdir(aside)
    return freed


def _unlink(path: str) -> int:
    size = _size(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        return size
    return 0


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
