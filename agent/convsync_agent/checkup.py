"""`doctor`: look at everything that a support thread would ask for, in an order that a person reads.

A check that fails is a finding, never the end of the others: the config may be broken, the state damaged, a mount
dead. What does not answer is left behind after a moment (`bounded`).
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from convsync_agent import __version__, config, dirs, habitat, layout, locks, mounts, outsiders, publish, state
from convsync_agent.bounded import Answer, looked
from convsync_agent.condition import SiloSeen, Survey, TreeSeen, judge_silent, judge_silo, judge_tree
from convsync_agent.diagnosis import (
    Service,
    Standing,
    judge_agent,
    judge_attention,
    judge_clock,
    judge_config,
    judge_deaf,
    judge_history,
    judge_holding,
    judge_place,
    judge_service,
    judge_state,
    judge_watching,
)
from convsync_agent.errors import ConvsyncError, UsageProblem, reason_of
from convsync_agent.finding import Code, Finding, amount, error, ok
from convsync_agent.fs import CONVERSATIONS
from convsync_agent.grounds import Ground, judge_grounds
from convsync_agent.history import History
from convsync_agent.shelter import Shelter
from convsync_agent.state import Attention, Workspace, Worktree
from convsync_agent.survey import look_at_silo, look_at_tree

ANSWER_SECONDS = 3.0  # a file system that takes longer for one stat is as good as dead
CHECK_SECONDS = 60.0  # ten thousand conversations on a slow, busy disk
AGENT_SECONDS = 5.0
LOCK = "agent.lock"


class Premises(NamedTuple):
    """Where to look. `sets` and `config` as they stand on the command line."""

    state_dir: str
    data_dir: str
    runtime_dir: str
    jp_data: str
    config: str | None = None
    sets: tuple[str, ...] = ()


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
    agent: Standing = Standing(False, None, None, __version__, 0, 0)
    service: Service = Service()

    def surveys(self) -> list[tuple[str, str, Survey]]:
        """(role, root, survey) of every root that answered and is there."""
        silos = [("silo", s.path, s.survey) for s in self.silos if s.there]
        return silos + [("worktree", t.path, t.survey) for t in self.trees if t.there]


def examine(where: Premises, env: Mapping[str, str]) -> list[Finding]:
    """All findings, those about the machine first."""
    scene = look_around(where)
    checks: dict[str, Callable[[], list[Finding]]] = {
        "settings": partial(_settings, scene, env),
        "directories": partial(_places, scene),
        "JP's user data": partial(_jp_data, scene),
        "file systems": partial(_grounds, scene),
        "inotify": partial(_inotify, scene),
        "clock": partial(_clock, scene),
        "state": lambda: scene.state_findings,
        "history": partial(_history, scene),
        "service": lambda: judge_service(scene.service, running=scene.agent.locked, registered=len(scene.worktrees)),
        "agent": partial(_agent, scene),
        "attention": lambda: judge_attention(e.kind for e in scene.attention),
        "workspaces": partial(_workspaces, scene),
    }
    found = [_versions()]
    for name, answer in looked(checks, CHECK_SECONDS).items():
        found += _findings(name, answer)
    return found


def _findings(name: str, answer: Answer[list[Finding]]) -> list[Finding]:
    if answer.value is not None:
        return answer.value
    return [unfinished(name, answer)]


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


# -- looking ----------------------------------------------------------------------------


def look_around(where: Premises) -> Scene:
    """The registry, the agent, the service, and every root that answers."""
    scene = Scene(where, time.time_ns())
    first = looked(
        {
            "state": partial(_read_state, where, scene.now_ns),
            "agent": partial(_ask_agent, where),
            "service": _ask_service,
        },
        AGENT_SECONDS + ANSWER_SECONDS,
    )
    read = first["state"].value
    if isinstance(read, Scene):
        scene = read
    else:
        scene.state_findings = [unfinished("state file", first["state"])._replace(code=Code.STATE)]
    if isinstance(first["agent"].value, Standing):
        now_ms = scene.now_ns // 1_000_000
        scene.agent = first["agent"].value._replace(registered=len(scene.worktrees), now_ms=now_ms)
    if isinstance(first["service"].value, Service):
        scene.service = first["service"].value
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
    locked = locks.agent_running(lock)
    said = locks.holder_of(lock) if locked else None
    told = publish.ask(where.state_dir, where.runtime_dir, AGENT_SECONDS) if locked else None
    return Standing(locked, said.pid if said else None, told, __version__, 0, 0)


def _ask_service() -> Service:
    import importlib  # noqa: PLC0415

    try:
        supervisor = importlib.import_module("convsync_agent.supervisor")
    except ImportError:
        return Service()
    seen = supervisor.state()
    return Service(seen.manager, seen.installed, seen.enabled, seen.active, seen.path, seen.linger)


def _look_at_roots(scene: Scene) -> None:
    paths = [w.silo for w in scene.workspaces] + [layout.store_of(t.path) for t in scene.worktrees]
    alive = looked({p: partial(_exists, p) for p in paths}, ANSWER_SECONDS)
    scene.silent = {p for p, answer in alive.items() if not answer.done}
    trees = {w.id: [t.path for t in scene.worktrees if t.workspace == w.id] for w in scene.workspaces}
    answering = {i: [t for t in trees[i] if layout.store_of(t) not in scene.silent] for i in trees}
    silos = {
        w.silo: partial(look_at_silo, w, answering[w.id], scene.now_ns)
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


# -- one check each ------------------------------------------------------------------------


def _versions() -> Finding:
    python = platform.python_version()
    return ok(Code.VERSIONS, f"convsync {__version__}, Python {python}, {platform.system()} {platform.release()}")


def _settings(scene: Scene, env: Mapping[str, str]) -> list[Finding]:
    """Every mistake of the settings, each a finding."""
    try:
        loaded = config.load(scene.where.config, env, scene.where.sets)
    except UsageProblem as problem:
        first, *more = problem.message.split("\n  ")
        path = problem.where or dirs.config_path(scene.where.config, env)
        return judge_config(more or [first], [], path, 0)
    changed = sum(origin != "default" for origin in loaded.origins.values())
    return judge_config([], loaded.warnings, loaded.path, changed)


def _places(scene: Scene) -> list[Finding]:
    where = scene.where
    roles = {
        "state directory": where.state_dir,
        "data directory": where.data_dir,
        "runtime directory": where.runtime_dir,
    }
    return [f for role, path in roles.items() for f in judge_place(habitat.look_at(role, path))]


def _jp_data(scene: Scene) -> list[Finding]:
    return judge_holding(habitat.look_at_jp(scene.where.jp_data, {w.user_data for w in scene.workspaces}))


def _grounds(scene: Scene) -> list[Finding]:
    everything = sum(s.survey.bytes for s in scene.silos)
    number = sum(s.survey.live + s.survey.archived for s in scene.silos)
    ours = [
        habitat.ground_of("data directory", scene.where.data_dir, needed=everything, conversations=number),
        habitat.ground_of("state directory", scene.where.state_dir),
    ]
    grounds = [g._replace(ours=True, times_ns=habitat.look_at(g.role, g.path).step_ns) for g in ours]
    for role, path, seen in scene.surveys():
        if not seen.fault:
            grounds.append(_ground(role, path, seen))
    return judge_grounds(grounds)


def _ground(role: str, path: str, seen: Survey) -> Ground:
    return habitat.ground_of(role, path, needed=2 * seen.largest, times_ns=seen.times_ns)


def _inotify(scene: Scene) -> list[Finding]:
    surveys = scene.surveys()
    told = (scene.agent.told or {}).get("agent", {})
    return judge_watching(
        mounts.inotify_use(),
        rooms=sum(s.live for _, _, s in surveys),
        roots=len(surveys),
        own=int(told.get("watches", 0)),
        running=scene.agent.locked,
    )


def _clock(scene: Scene) -> list[Finding]:
    told = (scene.agent.told or {}).get("agent", {})
    ahead = sorted({c for _, _, s in scene.surveys() for c in s.ahead})
    now_ms = scene.now_ns // 1_000_000
    return judge_clock(now_ms, noted_ms=scene.newest_ms, started_ms=int(told.get("started_at") or 0), ahead=ahead)


def _history(scene: Scene) -> list[Finding]:
    """Every manifest is read, and every object is there with its size; the content is `verify`'s."""
    history = History(scene.where.data_dir)
    versions, conversations, damaged = 0, 0, []
    for workspace in _listed(history.base):
        for conversation in history.conversations(workspace):
            seen = history.look(workspace, conversation)
            versions += len(seen.versions)
            conversations += bool(seen.versions)
            damaged += [conversation] if seen.problems else []
    removed = len(Shelter(scene.where.data_dir).ls()[0])
    return judge_history((versions, conversations, removed), damaged, amount(history.size()), history.base)


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _agent(scene: Scene) -> list[Finding]:
    table = mounts.mount_table()
    roots = [r for _, r, _ in scene.surveys()]
    kinds = {r: mounts.file_system_of(r, table) if table is not None else None for r in roots}
    return [*judge_agent(scene.agent, scene.service), *judge_deaf(scene.agent.told, kinds)]


def _workspaces(scene: Scene) -> list[Finding]:
    """Each silo, and the worktrees of its workspace below it."""
    found = []
    for workspace in scene.workspaces:
        if workspace.silo in scene.silent:
            found.append(judge_silent("silo", workspace.silo))
        found += [f for s in scene.silos if s.workspace == workspace.id for f in judge_silo(s)]
        for row in scene.worktrees:
            if row.workspace == workspace.id:
                if layout.store_of(row.path) in scene.silent:
                    found.append(judge_silent("worktree", row.path))
                found += [f for t in scene.trees if t.path == row.path for f in judge_tree(t)]
    return found
