"""What the cases stand on: a machine, JP as its contract describes it, and convsync's own commands."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from pathlib import Path

from convsync_agent.engine import Engine
from convsync_agent.guard import held
from convsync_agent.index import IndexEntry, load_index
from convsync_agent.model import METADATA, Unit
from convsync_agent.session import Session, Trail, Visit, as_json
from convsync_agent.settings import Settings
from convsync_agent.site import Site, load_sites
from convsync_agent.state import reader, writer
from jp import JP
from machine import WS, Machine, as_jp, event

A, B, C, D = 17_000_000_001, 17_000_000_002, 17_000_000_003, 17_000_000_004
STREAM, MANAGED = ("base_config.json", "events.json"), ("base_config.json", "events.json", "metadata.json")
STARTED = "2023-11-14 22:13:20.0"


def store(m: Machine, name="a") -> Path:
    return m.base / name / ".jp"


def plain(m: Machine, name="a") -> Path:
    """A worktree that convsync does not know, beside a silo that JP made."""
    (m.silo() / "conversations").mkdir(parents=True, exist_ok=True)
    return m.worktree(name, register=False)


def registered(m: Machine, *conversations, name="a", **metadata) -> Path:
    """A registered worktree with one question in each of these conversations, all projected."""
    path = m.worktree(name, register=False)
    for number in conversations:
        m.write(path, number, "one", **metadata)
    m.ok("register", path)
    return path


def jp(m: Machine, name="a") -> JP:
    """A run of JP in one worktree."""
    return JP(m.silo(), store(m, name))


def sync(m: Machine, *flags):
    """One reconciliation of quiet files; what it says of itself."""
    m.quiet()
    return m.ok("sync", "--json", *flags).json


def rows(m: Machine, *flags):
    """What `ls` says, by number; `--all` of the statuses unless told otherwise."""
    found = m.ok("ls", "--json", *(flags or ["--all"])).json["conversations"]
    return {int(c["id"].removeprefix("jp-c")): c for c in found}


def raw(m: Machine, root, conversation, file, *, archived=False) -> bytes:
    return (m.directory(root, conversation, archived=archived) / file).read_bytes()


def fields(m: Machine, root, conversation, *, archived=False):
    return json.loads(raw(m, root, conversation, METADATA, archived=archived))


def equal(m: Machine, conversation, *roots, archived=False) -> bool:
    """Same name and same bytes of every managed file."""
    found = [m.directory(r, conversation, archived=archived) for r in roots]
    return None not in found and 1 == len(
        {(d.name, *((d / f).read_bytes() if (d / f).exists() else None for f in MANAGED)) for d in found}
    )


def metadata(**more) -> bytes:
    return as_jp({"last_activated_at": STARTED} | more)


def stream(*texts) -> bytes:
    return as_jp([event(t) for t in texts])


def site(m: Machine) -> Site:
    opened = reader(str(m.base / "state/convsync"))
    try:
        return load_sites(opened, 0)[WS]
    finally:
        opened.close()


def index(m: Machine) -> dict[int, IndexEntry]:
    return {e.id: e for e in load_index(site(m))}


@contextmanager
def guarded(m: Machine, conversation, name="a"):
    """A conversation while its lock is held, as every command that changes one holds it."""
    opened = writer(str(m.base / "state/convsync"))
    try:
        engine = Engine(opened, str(m.base / "data/convsync"), Settings())
        place = engine.sites[WS]
        entry = next(e for e in load_index(place) if e.id == conversation)
        tree = place.trees[str(store(m, name))]
        with held(engine, place, entry, tree=tree, deadline=time.monotonic() + 5) as guard:
            yield guard
    finally:
        opened.close()


def written(m: Machine, conversation, intent, **more) -> None:
    """Metadata of a conversation written with an intent."""
    with guarded(m, conversation) as guard:
        guard.write(Unit.METADATA, [(METADATA, metadata(**more))], intent)


def kept(m: Machine, conversation) -> set[bytes]:
    """Every file that the history holds of a conversation."""
    from convsync_agent.history import History

    history = History(str(m.base / "data/convsync"))
    versions = history.versions(WS, conversation)
    return {body for v in versions for _, body, _ in history.read(WS, conversation, v.version)}


def ages(*paths) -> list[int]:
    return [Path(p).stat().st_mtime_ns for p in paths]


def set_age(path, mtime_ns) -> None:
    os.utime(path, ns=(mtime_ns, mtime_ns))


# -- sessions -------------------------------------------------------------------------------


@contextmanager
def session(name: str):
    """What runs inside is of this session, as `$JP_SESSION` says it."""
    before = os.environ.get("JP_SESSION")
    os.environ["JP_SESSION"] = name
    try:
        yield
    finally:
        os.environ.pop("JP_SESSION")
        if before is not None:
            os.environ["JP_SESSION"] = before


def use(m: Machine, conversation, name="one") -> None:
    with session(name):
        m.ok("use", conversation)


def shown(m: Machine, name="one") -> tuple[str | None, str | None]:
    """Active and previous of a session."""
    with session(name):
        said = m.ok("session", "show", "--json").json
    return said["active"], said["previous"]


def session_file(m: Machine, who: Session) -> Path:
    return m.silo() / "sessions" / f"{who.key}.json"


def put_session(m: Machine, who: Session, *conversations, name="") -> Path:
    """A session file as JP writes it, under its key or another name."""
    path = m.silo() / "sessions" / (name or f"{who.key}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(as_json(Trail(who, tuple(Visit(c, "2024-01-01T00:00:00Z", {}) for c in conversations))))
    return path
