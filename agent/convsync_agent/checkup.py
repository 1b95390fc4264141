"""`doctor`: look at everything that a support thread would ask for, in an order that a person reads.

A check that fails is a finding, never the end of the others: the config may be broken, the state damaged, a mount
dead. What hangs is left behind after a moment.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping
from functools import partial

from convsync_agent import __version__, config, dirs, habitat, layout, mounts
from convsync_agent.bounded import Answer, looked
from convsync_agent.condition import judge_silent, judge_silo, judge_tree
from convsync_agent.diagnosis import (
    judge_agent,
    judge_attention,
    judge_clock,
    judge_config,
    judge_deaf,
    judge_history,
    judge_holding,
    judge_place,
    judge_service,
    judge_watching,
)
from convsync_agent.errors import UsageProblem
from convsync_agent.finding import Code, Finding, amount, ok
from convsync_agent.grounds import judge_grounds
from convsync_agent.history import History
from convsync_agent.scene import CHECK_SECONDS, Premises, Scene, look_around, unfinished
from convsync_agent.shelter import Shelter


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
        "service": partial(_service, scene),
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


# -- one check each ------------------------------------------------------------------------


def _versions() -> Finding:
    python = platform.python_version()
    return ok(Code.VERSIONS, f"convsync {__version__}, Python {python}, {platform.system()} {platform.release()}")


def _settings(scene: Scene, env: Mapping[str, str]) -> list[Finding]:
    """Every mistake of the settings, each a finding."""
    try:
        loaded = config.load(scene.where.config, env, scene.where.sets)
    except UsageProblem as problem:
        path = problem.where or dirs.config_path(scene.where.config, env)
        return judge_config([m.removeprefix(f"{path}: ") for m in config.mistakes_of(problem)], [], path, 0)
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
    data = habitat.ground_of("data directory", scene.where.data_dir)
    ours = [
        data._replace(needed=everything, conversations=number),
        habitat.ground_of("state directory", scene.where.state_dir),
    ]
    grounds = [g._replace(ours=True, times_ns=habitat.look_at(g.role, g.path).step_ns) for g in ours]
    for role, path, seen in scene.surveys():
        if not seen.fault:
            ground = habitat.ground_of(role, path)
            grounds.append(ground._replace(needed=2 * seen.largest, times_ns=seen.times_ns))
    return judge_grounds(grounds)


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


def _service(scene: Scene) -> list[Finding]:
    agent = scene.agent
    return judge_service(scene.service, running=agent.locked, registered=len(scene.worktrees), pid=agent.pid)


def _agent(scene: Scene) -> list[Finding]:
    table = mounts.mount_table()
    roots = [str(one.get("root", "")) for one in (scene.agent.told or {}).get("deaf", ())]
    kinds = {r: mounts.file_system_of(r, table) for r in roots} if table is not None else {}
    return [
        *judge_agent(scene.agent, installed=bool(scene.service and scene.service.installed)),
        *judge_deaf(scene.agent.told, kinds),
    ]


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
