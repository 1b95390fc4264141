"""JP as its contract describes it: what it reads, what it writes in which order, its sanitizer and its lock.

A `JP` is one run in one worktree: the index and what it loads are read once and never again, so a run that was
started early writes what it knew then (contract 5.1, 6.1, 10.2).
"""

from __future__ import annotations

import fcntl
import itertools
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

from agents import jp_loads
from convsync_agent.content import check_base_config, check_events, check_metadata, expires_at
from convsync_agent.names import dirname, lock_name, lookalike_id, parse_dirname
from convsync_agent.sample import locked_as_jp, write_as_jp
from machine import as_jp, event

FILES = ("metadata.json", "base_config.json", "events.json")
ARCHIVE, TRASH = ".archive", ".trash"


def directories(root: Path, conversation: int | None = None, *, archived: bool = False) -> list[Path]:
    """The directories of one conversation, or of all, in one partition of a silo or a `.jp`."""
    top = root / "conversations" / (ARCHIVE if archived else "")
    found = sorted(p for p in top.glob("[!.]*") if p.is_dir() and parse_dirname(p.name) is not None)
    return [p for p in found if conversation in {None, parse_dirname(p.name)}]


def fault(path: Path) -> str:
    """'' or why the sanitizer would move it (contract 4.7, 6.7)."""
    for name, check in (("metadata.json", check_metadata), ("base_config.json", check_base_config)):
        if (path / name).is_file() and check((path / name).read_bytes()):
            return name
    for name in ("metadata.json", "events.json"):
        if not (path / name).is_file():
            return f"missing {name}"
    return check_events((path / "events.json").read_bytes(), packed=not (path / "base_config.json").is_file())


def unnamed(root: Path) -> list[Path]:
    """Directories whose names are of no conversation: trashed at every start, for they have no lock (contract 6.7)."""
    top = root / "conversations"
    return sorted(
        p for p in top.glob("[!.]*") if p.is_dir() and parse_dirname(p.name) is None and lookalike_id(p.name) is None
    )


def trash(path: Path, error: str) -> Path:
    """Move a directory below `.trash`, under its name or the first of -1, -2, ... that is free. Returns where it is."""
    top = path.parent / TRASH
    top.mkdir(exist_ok=True)
    numbered = (top / (f"{path.name}-{n}" if n else path.name) for n in itertools.count())
    target = next(t for t in numbered if not t.exists())
    path.rename(target)
    (target / "TRASHED.md").write_text(f"# Trashed\n\n**Error:** {error}\n")
    return target


class JP:
    """One run. `silo` and `tree` hold `conversations/`."""

    def __init__(self, silo: Path, tree: Path):
        self.silo, self.tree = silo, tree
        self.trashed = self.sanitize()
        self.projected = {parse_dirname(p.name) for p in directories(tree)}
        self.known = sorted(self.projected | {parse_dirname(p.name) for p in directories(silo)})
        self.loaded = {c: self._load(c) for c in self.known}

    def _load(self, conversation: int) -> dict[str, bytes]:
        silo, tree = (next(iter(directories(r, conversation)), r / "none") for r in (self.silo, self.tree))
        return jp_loads(silo, tree)

    # -- at every start -------------------------------------------------------------

    def sanitize(self) -> list[Path]:
        """`*.tmp` go; what does not load and is not locked goes to `.trash`, worktree first. Returns what went."""
        moved = []
        for root in (self.tree, self.silo):
            for path in directories(root):
                for temp in (t for t in path.glob("*.tmp") if t.is_file()):
                    temp.unlink()
                lock = self.silo / "locks" / lock_name(parse_dirname(path.name))
                if fault(path) and not (lock.exists() and _held(lock)):
                    moved.append(trash(path, fault(path)))
            moved += [trash(path, "invalid directory name") for path in unnamed(root)]
        return moved

    # -- commands ---------------------------------------------------------------------

    @contextmanager
    def lock(self, conversation):
        with locked_as_jp(str(self.silo), conversation):
            yield

    def new(self, conversation, *texts, title="first", local=False, **fields):
        """`query --new`: the silo, then, unless it is local, the worktree."""
        metadata = as_jp({"title": title, "last_activated_at": "2023-11-14 22:13:20.0"} | fields)
        self.loaded[conversation] = {
            "metadata.json": metadata,
            "base_config.json": as_jp({}),
            "events.json": as_jp([event(t) for t in texts]),
        }
        self.projected |= set() if local else {conversation}
        with self.lock(conversation):
            self.persist(conversation)

    def set_local(self, conversation, *, local):
        """`edit --local`: the silo is written, then the worktree's directory goes or is made (contract 6.4)."""
        self.projected -= {conversation}
        self.projected |= set() if local else {conversation}
        with self.lock(conversation):
            self.persist(conversation)

    def query(self, conversation, text):
        """One more turn on top of what was loaded."""
        files = self.loaded[conversation]
        files["events.json"] = as_jp([*json.loads(files["events.json"]), event(text)])
        with self.lock(conversation):
            self.persist(conversation)

    def edit(self, conversation, **fields):
        """Properties: a title renames the directory first (contract 10.3)."""
        files = self.loaded[conversation]
        files["metadata.json"] = as_jp(json.loads(files["metadata.json"]) | fields)
        with self.lock(conversation):
            self.persist(conversation)

    def persist(self, conversation):
        """Import, silo, worktree; where it was not projected, worktree directories go (contract 6.1)."""
        files = self.loaded[conversation]
        name = dirname(conversation, json.loads(files["metadata.json"]).get("title"))
        ours = directories(self.tree, conversation)
        if not directories(self.silo, conversation) and ours:
            (self.silo / "conversations").mkdir(exist_ok=True)
            shutil.copytree(ours[0], self.silo / "conversations" / name, copy_function=shutil.copyfile)
        self._write(self.silo, conversation, name, files)
        if conversation in self.projected:
            self._write(self.tree, conversation, name, files)
        else:
            for path in directories(self.tree, conversation):
                shutil.rmtree(path)

    @staticmethod
    def _write(root: Path, conversation: int, name: str, files: dict[str, bytes]) -> None:
        there = directories(root, conversation)
        target = root / "conversations" / name
        if there and target not in there:
            there[0].rename(target)
        for other in directories(root, conversation):
            if other != target:
                shutil.rmtree(other)
        write_as_jp(str(target), {f: files[f] for f in FILES if files.get(f)})

    def remove(self, conversation):
        """Under the lock, worktree first, file by file."""
        with self.lock(conversation):
            for root in (self.tree, self.silo):
                for path in directories(root, conversation):
                    shutil.rmtree(path)

    def archive(self, conversation):
        """Persist, then a rename in each root, worktree first."""
        self.edit(conversation, archived_at="2023-11-15 00:00:00.0")
        with self.lock(conversation):
            self._move(conversation, archived=True)

    def unarchive(self, conversation):
        """No lock at all (contract 6.5)."""
        self.projected |= {parse_dirname(p.name) for p in directories(self.tree, archived=True)}
        self._move(conversation, archived=False)
        self.loaded[conversation] = self._load(conversation)
        fields = json.loads(self.loaded[conversation]["metadata.json"])
        fields.pop("archived_at", None)
        self.loaded[conversation]["metadata.json"] = as_jp(fields)
        self.persist(conversation)

    def _move(self, conversation, *, archived):
        for root in (self.tree, self.silo):
            for path in directories(root, conversation, archived=not archived):
                top = root / "conversations" / (ARCHIVE if archived else "")
                top.mkdir(exist_ok=True)
                if (top / path.name).exists():
                    shutil.rmtree(top / path.name)
                path.rename(top / path.name)

    def edit_files(self, conversation, raw: bytes):
        """The file editor, without a lock: in the worktree if it is there, and copied whole into the silo after."""
        ours, durable = directories(self.tree, conversation), directories(self.silo, conversation)
        path = next(iter([*ours, *durable])) / "events.json"
        with open(path, "r+b") as file:
            file.write(raw)
            file.truncate()
        if ours:
            for old in durable:
                shutil.rmtree(old)
            shutil.copytree(ours[0], self.silo / "conversations" / ours[0].name, copy_function=shutil.copyfile)

    def expire(self, now_ns, active=()):
        """At the end of a run, without a lock: what any live copy says is over goes from both roots (contract 6.8)."""
        ends = {p: expires_at((p / FILES[0]).read_bytes()) for r in (self.silo, self.tree) for p in directories(r)}
        over = {parse_dirname(p.name) for p, end in ends.items() if end is not None and end <= now_ns} - set(active)
        for root in (self.tree, self.silo):
            for path in directories(root):
                if parse_dirname(path.name) in over:
                    shutil.rmtree(path)
        return over

    def leave(self):
        """At the end of every run: lock files that nobody holds go."""
        for path in (self.silo / "locks").glob("*.lock"):
            if not _held(path):
                path.unlink(missing_ok=True)


def _held(path: Path) -> bool:
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False
