"""Everything that `doctor` has seen before it judges: the registry, the agent, the service, every root that answers.

What does not answer is left behind after a moment (`bounded`), and not looked at again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from convsync_agent import __version__, flocks, layout, locks, outsiders, publish, state, supervisor
from convsync_agent.bounded import Answer, looked
from convsync_agent.condition import SiloSeen, Survey, TreeSeen
from convsync_agent.diagnosis import Standing, judge_state
from convsync_agent.errors import ConvsyncError, reason_of
from convsync_agent.finding import Code, Finding, error
from convsync_agent.fs import CONVERSATIONS
from convsync_agent.service import ServiceState
from convsync_agent.state import Attention, Workspace, Worktree
from convsync_agent.survey import look_at_silo, look_at_tree

ANSWER_SECONDS = 3.0  # a file system that takes longer for one stat is as good as dead
CHECK_SECONDS = 60.0  # ten thousand conversations on a slow, busy disk
AGENT_SECONDS = 5.0
FIRST_SECONDS = 15.0  # longer than a service manager is waited for
LOCK = "agent.lock"


class Premises(NamedTuple):
    """Where to look. `sets` and `config` as they stand on the command line."""

    state_dir: str
    data_dir: str
    runtime_dir: str
    jp_data: str
    config: str | None = None
    sets: tuple[str, ...] = ()


NOBODY = Standing(locked=False, pid=None, told=None, ours=__version__, registered=0, now_ms=0)


@dataclass(slots=True)
class Scene:
    """Everything that was seen. `silent`: roots that do not answer; they are not looked at again."""

    where: Premises
    now_ns: int
    workspaces: list[Workspace] = field(default_factory=list)
    worktrees: list[Worktree] = field(default_factory=list)
    attention: list[Attention] = field(default_factory=list)
    newest_ms: int = 0
    state_findings: list[Finding] = field(default_factory=list)
    silent: set[str] = field(default_factory=set)
    silos: list[SiloSeen] = field(default_factory=list)
    trees: list[TreeSeen] = field(default_factory=list)
    agent: Standing = NOBODY
    service: ServiceState | None = None

    def surveys(self) -> list[tuple[str, str, Survey]]:
        """(role, root, survey) of every root that answered and is there."""
        silos = [("silo", s.path, s.survey) for s in self.silos if s.there]
        return silos + [("worktree", t.path, t.survey) for t in self.trees if t.there]


def unfinished(name: str, answer: Answer[Any]) -> Finding:
    """A check that did not come to an end, or to a bad one."""
    failure, fix = answer.failure, "convsync doctor --bundle FILE  # and report it"
    if isinstance(failure, ConvsyncError):
        return error(Code.PLACES, f"{name}: {failure.message}", where=failure.where, fix=failure.hint or fix)
    if isinstance(failure, OSError):
        return error(Code.PLACES, f"{name}: {reason_of(failure)}", fix="check the disk or mount, and who may read it")
    if failure is not None:
        return error(Code.PLACES, f"{name}: the check itself failed ({type(failure).__name__})", fix=fix)
    return error(Code.SILENT, f"{name}: no answer; a file system hangs", fix="mount  # one of these is dead")


def look_around(where: Premises) -> Scene:
    """The registry, the agent, the service, and every root that answers."""
    scene = Scene(where, time.time_ns())
    looks: dict[str, Callable[[], Scene | Standing | ServiceState]] = {
        "state": partial(_read_state, where, scene.now_ns),
        "agent": partial(_ask_agent, where),
        "service": supervisor.state,
    }
    first = looked(looks, FIRST_SECONDS)
    read, agent, service = (first[name].value for name in looks)
    if isinstance(read, Scene):
        scene = read
    else:
        scene.state_findings = [unfinished("state file", first["state"])._replace(code=Code.STATE)]
    if isinstance(agent, Standing):
        scene.agent = agent._replace(registered=len(scene.worktrees), now_ms=scene.now_ns // 1_000_000)
    if isinstance(service, ServiceState):
        scene.service = service
    _look_at_roots(scene)
    return scene


def _read_state(where: Premises, now_ns: int) -> Scene:
    scene = Scene(where, now_ns)
    path = os.path.join(where.state_dir, state.NAME)
    opened = state.reader(where.state_dir)
    if opened is None:
        scene.state_findings = judge_state([], path, None)
        return scene
    try:
        problems = opened.problems()
        if not problems:
            scene.workspaces, scene.worktrees = opened.workspaces(), opened.worktrees()
            scene.attention = opened.attention()
            scene.newest_ms = max((d.at_ms for d in opened.newest_deeds(1)), default=0)
        scene.state_findings = judge_state(problems, path, (len(scene.workspaces), len(scene.worktrees)))
    finally:
        opened.close()
    return scene


def _ask_agent(where: Premises) -> Standing:
    lock = os.path.join(where.state_dir, LOCK)
    locked = flocks.agent_running(lock)
    said = locks.holder_of(lock) if locked else None
    told = publish.ask(where.state_dir, where.runtime_dir, AGENT_SECONDS) if locked else None
    return NOBODY._replace(locked=locked, pid=said.pid if said else None, told=told)


def _look_at_roots(scene: Scene) -> None:
    paths = [w.silo for w in scene.workspaces] + [layout.store_of(t.path) for t in scene.worktrees]
    alive = looked({p: partial(_exists, p) for p in paths}, ANSWER_SECONDS)
    scene.silent = {p for p, answer in alive.items() if not answer.done}
    trees = {w.id: [t.path for t in scene.worktrees if t.workspace == w.id] for w in scene.workspaces}
    answering = {i: [t for t in trees[i] if layout.store_of(t) not in scene.silent] for i in trees}
    silos = {
        w.silo: partial(look_at_silo, w, answering[w.id], scene.silent, scene.now_ns)
        for w in scene.workspaces
        if w.silo not in scene.silent
    }
    rows = {t.path: partial(_tree, t, scene.now_ns) for t in scene.worktrees}
    rows = {p: look for p, look in rows.items() if layout.store_of(p) not in scene.silent}
    seen_silos, seen_trees = looked(silos, CHECK_SECONDS), looked(rows, CHECK_SECONDS)
    scene.silos = [a.value for a in seen_silos.values() if a.value is not None]
    scene.trees = [a.value for a in seen_trees.values() if a.value is not None]
    scene.silent |= {p for p, a in seen_silos.items() if a.value is None}
    scene.silent |= {layout.store_of(p) for p, a in seen_trees.items() if a.value is None}


def _exists(path: str) -> bool:
    return os.path.lexists(os.path.join(path, CONVERSATIONS))


def _tree(row: Worktree, now_ns: int) -> TreeSeen:
    seen = look_at_tree(row, now_ns)
    if not seen.there or seen.survey.fault:
        return seen
    return seen._replace(ignored=outsiders.ignored(row.path, f"{layout.STORE}/{CONVERSATIONS}/0"))
