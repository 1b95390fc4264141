"""JP as its contract describes it: what it reads, what it writes in which order, its sanitizer and its lock.

A `JP` is one run in one worktree: the index and what it loads are read once and never again, so a run that was
started early writes what it knew then (contract 5.1, 6.1, 10.2).
"""

from __future__ import annotations

import fcntl
import json
import shutil
from contextlib import contextmanager
from pathlib import Path

from agents import jp_loads
from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.names import dirname, lock_name, parse_dirname
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


class JP:
    """One run. `silo` and `tree` hold `conversations/`."""

    def __init__(self, silo: Path, tree: Path):
        self.silo, self.tree = silo, tree
        self.sanitize()
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
                for temp in path.glob("*.tmp"):
                    temp.unlink()
                if fault(path) and not (self.silo / "locks" / lock_name(parse_dirname(path.name))).exists():
                    moved.append(self._trash(root, path))
        return moved

    @staticmethod
    def _trash(root: Path, path: Path) -> Path:
        trash = root / "conversations" / TRASH
        trash.mkdir(exist_ok=True)
        number = len(list(trash.iterdir()))
        target = trash / (f"{path.name}-{number}" if (trash / path.name).exists() else path.name)
        path.rename(target)
        (target / "TRASHED.md").write_text("# Trashed\n")
        return target

    # -- commands ---------------------------------------------------------------------

    @contextmanager
    def lock(self, conversation):
        with locked_as_jp(str(self.silo), conversation):
            yield

    def new(self, conversation, *texts, title="first"):
        """`query --new`: the silo, then the worktree."""
        metadata = as_jp({"title": title, "last_activated_at": "2023-11-14 22:13:20.0"})
        self.loaded[conversation] = {
            "metadata.json": metadata,
            "base_config.json": as_jp({}),
            "events.json": as_jp([event(t) for t in texts]),
        }
        self.projected.add(conversation)
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
