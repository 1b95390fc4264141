"""What a person wrote and nobody took over goes into the history: an edit that came too late, or whose process died."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Sequence

from convsync_agent import fs, scratch
from convsync_agent.bulk import Content, digest_of
from convsync_agent.chosen import Contents, fault_in, look, read_units
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError
from convsync_agent.history import History
from convsync_agent.model import BASE_CONFIG, BOTH, EVENTS, UNIT_FILES, Copy, Unit
from convsync_agent.stream_json import count

CRASHED, NOT_TAKEN = "edited; its process died", "edited; not taken over"


def keep_edited(
    history: History, workspace: str, conversation: int, contents: Contents, *, root: str, why: str = NOT_TAKEN
) -> list[str]:
    """Put what was edited into the history; the versions. Raises OSError."""
    now = time.time_ns()
    kept = []
    for unit, files in contents.items():
        events = next((count(raw) for name, raw in files if name == EVENTS), None)
        version = history.keep(
            workspace,
            conversation,
            unit,
            [(name, raw, now) for name, raw in files],
            root=root,
            at_ms=now // 1_000_000,
            why=why,
            valid=not fault_in({unit: files}),
            events=events,
        )
        kept.append(version.version)
    return kept


def sweep(engine: Engine) -> int:
    """Clear the private copies that a crash left: what nobody has goes into the history first. How many there were.

    What cannot be kept now stays where it is, for the next time.
    """
    done = 0
    try:
        with scratch.abandoned(engine.history.data_dir) as found:
            for one in found:
                try:
                    site = engine.sites.get(one.workspace)
                    root = site.silo.root.path if site is not None else one.top
                    keep_left(engine, one.workspace, one.conversation, one.folder, root=root, why=CRASHED)
                except (OSError, ValueError, fs.ChangedError, fs.OddFileError):
                    continue
                shutil.rmtree(one.top, ignore_errors=True)
                done += 1
    except FileNotFoundError:
        return 0
    return done


def keep_left(
    engine: Engine, workspace: str, conversation: int, folder: str, *, root: str, why: str, beside: bool = False
) -> list[str]:
    """What a private copy has and neither a root nor the history has; the versions it is kept as.

    All of it, as an editor that was killed leaves it; or what a person put `beside` the files that are edited. Raises
    OSError, ValueError, fs.ChangedError, fs.OddFileError: then it must stay.
    """
    site = engine.sites.get(workspace)
    copies: list[Copy] = []
    with contextlib.suppress(ConvsyncError):  # then nothing is known to be safe
        copies = look(engine, site, conversation) if site is not None else []
    roots = {f.digest for c in copies for u in BOTH for f in c.unit(u).files}

    def has(raw: Content) -> bool:
        digest = digest_of(raw)
        return digest in roots or engine.history.has_content(workspace, conversation, digest)

    left = {f.path: f.raw for f in scratch.everything(folder) if not beside or scratch.is_beside(f.path)}
    contents: dict[Unit, list[tuple[str, Content]]] = {}
    for unit in BOTH:
        mine: list[tuple[str, Content]] = [(n, left.pop(n)) for n in UNIT_FILES[unit] if n in left]
        if not all(has(raw) for _, raw in mine):
            contents[unit] = _whole(unit, mine, copies)
    others: list[tuple[str, Content]] = [(path, raw) for path, raw in left.items() if not has(raw)]
    if others:
        contents[Unit.EXTRAS] = others
    return keep_edited(engine.history, workspace, conversation, contents, root=root, why=why)


def _whole(unit: Unit, mine: list[tuple[str, Content]], copies: Sequence[Copy]) -> list[tuple[str, Content]]:
    """Events that were edited alone, with the base config they belong to, so that they can be restored."""
    names = [n for n, _ in mine]
    if unit is not Unit.STREAM or BASE_CONFIG in names:
        return mine
    try:
        durable = read_units(copies[0])[unit] if copies else []
    except ConvsyncError:
        durable = []
    return [*((n, raw) for n, raw in durable if n not in names), *mine]
