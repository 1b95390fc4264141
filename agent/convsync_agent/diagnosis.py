"""What is wrong with a machine, by what was seen of it: our places, JP's, the kernel's limits, the clock, the agent.

Pure: facts in, findings out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from convsync_agent.finding import Code, Finding, counted, error, ok, quoted, warn
from convsync_agent.service import ServiceState

OTHERS = 0o077
MINUTE_MS, DAY_MS = 60_000, 86_400_000
AHEAD_MS = 5 * MINUTE_MS
Y2020_MS = 1_577_836_800_000
LEAST_WATCHES = 524_288
MOST_INSTANCES = 1024
EACH_ROOT = 8  # watches of a root besides one for each live conversation
ALARMS = frozenset({"no-space", "denied", "io"})
NEEDS_YOU = frozenset({"held", "conflict", "split", "lost", "future"})


class Place(NamedTuple):
    """One directory of ours. `fault`: why it cannot be used, '' if it can. `loose`: how much in it others may read."""

    role: str
    path: str
    there: bool = False
    mode: int = 0o700
    foreign: bool = False
    fault: str = ""
    loose: int = 0
    step_ns: int = 1


class Holding(NamedTuple):
    """JP's user data directory, only looked at. `elsewhere`: registered workspaces that live in another one."""

    path: str
    there: bool = False
    directory: bool = True
    foreign: bool = False
    closed: bool = False
    open_to_others: bool = False
    elsewhere: tuple[str, ...] = ()


class Watching(NamedTuple):
    """inotify as this user uses it. Maximum 0: the kernel has no such limit. `own`: watches of our agent."""

    instances: int
    most_instances: int
    watches: int
    most_watches: int
    sysctl_instances: str = ""
    sysctl_watches: str = ""


class Standing(NamedTuple):
    """The agent. `locked`: some process has its lock; `pid`: who says so; `told`: its answer to a question just now."""

    locked: bool
    pid: int | None
    told: Mapping[str, Any] | None
    ours: str
    registered: int
    now_ms: int


def judge_place(place: Place) -> list[Finding]:
    role, path, typed = place.role, place.path, quoted(place.path)
    if not place.there:
        if not place.fault:
            return [ok(Code.PLACES, f"{role}: not there yet, made when it is needed", path)]
        fix = f'sudo install -d -m 700 -o "$(id -un)" {typed}'
        return [error(Code.PLACES, f"{role}: cannot be made ({place.fault})", where=path, fix=fix)]
    found = []
    if place.foreign:
        fix = f'sudo chown -R "$(id -un)" {typed}'
        found.append(error(Code.PLACES, f"{role}: belongs to another user", where=path, fix=fix))
    if place.mode & OTHERS:
        fix = f"chmod 700 {typed}"
        found.append(warn(Code.PERMISSIONS, f"{role}: other users can enter it", where=path, fix=fix))
    if place.loose:
        fix = f"chmod -R go-rwx {typed}"
        what = f"{role}: {counted(place.loose, 'file')} in it can be read by other users"
        found.append(warn(Code.PERMISSIONS, what, where=path, fix=fix))
    if place.fault:
        fix = f"ls -ld {typed}; df -h {typed}  # it has to be a directory that you can write"
        found.append(error(Code.PLACES, f"{role}: cannot be written ({place.fault})", where=path, fix=fix))
    return found or [ok(Code.PLACES, f"{role}: private, writable, fsync works", path)]


def judge_holding(jp: Holding) -> list[Finding]:
    path, typed = jp.path, quoted(jp.path)
    found = []
    if not jp.there:
        found.append(ok(Code.JP_DATA, "JP's user data: not there yet, no jp has run", path))
    elif not jp.directory:
        found.append(error(Code.JP_DATA, "JP's user data is no directory", where=path, fix=f"mv {typed} {typed}.aside"))
    elif jp.closed:
        fix = f"chmod u+rwx {typed}; ls -ld {typed}"
        found.append(error(Code.JP_DATA, "JP's user data cannot be read and written", where=path, fix=fix))
    if jp.there and jp.foreign:
        fix = f'sudo chown -R "$(id -un)" {typed}  # if it is not meant to be shared'
        found.append(warn(Code.JP_DATA, "JP's user data belongs to another user", where=path, fix=fix))
    if jp.there and jp.open_to_others:
        fix = f"chmod go-w {typed}"
        found.append(warn(Code.PERMISSIONS, "JP's user data can be written by other users", where=path, fix=fix))
    for other in jp.elsewhere:
        what = "a workspace was registered with another user data directory than JP uses here"
        fix = f"export JP_USER_DATA_DIR={quoted(other)}  # or register again"
        found.append(warn(Code.JP_DATA, what, where=other, fix=fix))
    return found or [ok(Code.JP_DATA, "JP's user data: readable and writable", path)]


def judge_watching(use: Watching, *, rooms: int, roots: int, own: int, running: bool) -> list[Finding]:
    """`rooms`: live conversations in all roots. What the agent has counts as used, so only the rest is still needed."""
    if not use.most_watches:
        return [ok(Code.INOTIFY, "no limit on what can be watched here")]
    said = f"inotify: {use.instances} of {use.most_instances} instances, {use.watches} of {use.most_watches} watches"
    found = []
    needed = use.watches - own + max(own, rooms + EACH_ROOT * roots)
    if needed > use.most_watches:
        enough = LEAST_WATCHES
        while enough < 2 * needed:
            enough *= 2
        fix = f"sudo sysctl {use.sysctl_watches}={enough}"
        found.append(warn(Code.INOTIFY, f"inotify: {use.most_watches} watches are allowed, {needed} needed", fix=fix))
    if use.most_instances and use.instances + (not running) > use.most_instances:
        fix = f"sudo sysctl {use.sysctl_instances}={max(MOST_INSTANCES, 2 * use.most_instances)}"
        found.append(warn(Code.INOTIFY, f"all of {use.most_instances} inotify instances are in use", fix=fix))
    return found or [ok(Code.INOTIFY, said)]


def judge_clock(now_ms: int, *, noted_ms: int, started_ms: int, ahead: Sequence[int]) -> list[Finding]:
    """`noted_ms`: the newest time that was ever written down; `ahead`: conversations dated ahead of the clock."""
    fix = "sudo timedatectl set-ntp true  # or set it by hand"
    found = []
    if now_ms < Y2020_MS:
        found.append(error(Code.CLOCK, "the clock is before 2020", fix=fix))
    elif noted_ms > now_ms + AHEAD_MS or started_ms > now_ms + AHEAD_MS:
        minutes = (max(noted_ms, started_ms) - now_ms) // MINUTE_MS
        found.append(warn(Code.CLOCK, f"the clock went back, by {counted(minutes, 'minute')}", fix=fix))
    if ahead:
        what = f"{counted(len(ahead), 'conversation')} dated ahead of the clock, jp-c{min(ahead)} for one"
        found.append(warn(Code.CLOCK, what, fix="convsync status  # if the clock is right: touch those files"))
    return found or [ok(Code.CLOCK, "the clock and the times of conversations agree")]


def judge_service(
    service: ServiceState | None, *, running: bool, registered: int, pid: int | None = None
) -> list[Finding]:
    """`service` None: its manager did not answer. `pid`: of the agent that runs."""
    if service is None:
        return [warn(Code.SERVICE, "the service manager does not answer", fix="convsync service status")]
    if service.manager is None:
        what = "no systemd user manager and no launchd here: start the agent yourself"
        return [ok(Code.SERVICE, what)]
    if not service.installed:
        what = "the service is not installed: no agent after the next login"
        return [warn(Code.SERVICE, what, fix="convsync service install --now")]
    found, active = [], service.active in ("active", "activating", "reloading")
    if service.enabled is False:
        what = "the service is installed, and not started at login"
        found.append(warn(Code.SERVICE, what, where=service.path, fix="convsync service install"))
    if service.active == "failed" or (not active and not running and registered):
        what = f"the service does not run ({service.active})"
        found.append(error(Code.SERVICE, what, where=service.path, fix="convsync service logs; convsync service start"))
    elif not active and running:
        what = "an agent runs that is not the service's"
        found.append(warn(Code.SERVICE, what, fix=f"kill {pid}; convsync service start" if pid else "convsync status"))
    if service.linger is False:
        what = "lingering is off: the service stops at logout"
        found.append(warn(Code.SERVICE, what, fix="loginctl enable-linger"))
    return found or [ok(Code.SERVICE, f"{service.manager} runs the agent and starts it at login", service.path)]


def judge_agent(agent: Standing, *, installed: bool) -> list[Finding]:
    again = "convsync service restart"
    if not installed:
        again = f"kill {agent.pid}; convsync agent" if agent.pid else "convsync agent"
    if not agent.locked:
        if not agent.registered:
            return [ok(Code.AGENT, "no agent runs, and nothing is registered yet")]
        fix = "convsync service start" if installed else "convsync agent"
        what = "no agent runs: nothing becomes durable by itself"
        return [warn(Code.AGENT, what, fix=fix)]
    if agent.told is None:
        return [error(Code.AGENT, f"the agent (pid {agent.pid or 'unknown'}) does not answer", fix=again)]
    said = agent.told.get("agent", {})
    version, pid, failure = said.get("version"), said.get("pid"), said.get("last_error")
    found = []
    if version != agent.ours:
        what = f"the agent is convsync {version}, this command is {agent.ours}"
        found.append(warn(Code.VERSIONS, what, fix=again))
    if failure and agent.now_ms - failure.get("at", 0) < DAY_MS:
        minutes = max(0, agent.now_ms - failure.get("at", 0)) // MINUTE_MS
        what = f"the agent met trouble {counted(minutes, 'minute')} ago ({failure.get('code')})"
        found.append(warn(Code.AGENT, what, fix="convsync status"))
    return found or [ok(Code.AGENT, f"the agent runs (pid {pid}, {said.get('watches', 0)} watches)")]


def judge_deaf(told: Mapping[str, Any] | None, kinds: Mapping[str, str | None]) -> list[Finding]:
    """Roots that the agent cannot watch. `kinds`: the file system of each root."""
    found = []
    for one in (told or {}).get("deaf", ()):
        root, code = one.get("root", ""), one.get("code", "")
        fix = {
            "ENOSPC": "sudo sysctl fs.inotify.max_user_watches=524288  # then restart the agent",
            "EMFILE": "sudo sysctl fs.inotify.max_user_instances=1024  # then restart the agent",
        }.get(code, f"ls -la {quoted(root)}  # everything in it has to be readable")
        kind = kinds.get(root) or "its file system"
        number = one.get("unwatched")
        some = "a root" if number is None else f"{counted(number, 'conversation')} of a root"
        what = f"{some} cannot be watched ({code} on {kind}): looked at in turns"
        found.append(warn(Code.WATCHING, what, where=root, fix=fix))
    return found


def judge_attention(kinds: Iterable[str]) -> list[Finding]:
    """What `status` has to say, in one line."""
    counts = Counter(kinds)
    loud = {k: n for k, n in sorted(counts.items()) if k in ALARMS | NEEDS_YOU}
    if not loud:
        return [ok(Code.ATTENTION, "nothing needs you")]
    said = ", ".join(f"{number} {kind}" for kind, number in loud.items())
    say = error if loud.keys() & ALARMS else warn
    return [say(Code.ATTENTION, f"something needs you: {said}", fix="convsync status")]


def judge_config(mistakes: Sequence[str], warnings: Sequence[str], path: str, changed: int) -> list[Finding]:
    """`changed`: settings that are not as they come."""
    found = [error(Code.CONFIG, m, where=path, fix="convsync config schema  # says what is allowed") for m in mistakes]
    found += [
        warn(
            Code.CONFIG,
            "other users can write the config file, or own it",
            where=path,
            fix=f"chmod go-w {quoted(path)}",
        )
        for _ in warnings
    ]
    return found or [ok(Code.CONFIG, f"settings: valid, {changed or 'none'} changed", path)]


def judge_state(problems: Sequence[str], path: str, counts: tuple[int, int] | None) -> list[Finding]:
    """`problems`: what SQLite finds wrong. `counts`: workspaces and worktrees; None: there is no state file yet."""
    if problems:
        fix = f"mv {quoted(path)} {quoted(path + '.damaged')}; convsync register WORKTREE  # no conversation changes"
        return [error(Code.STATE, f"the state file is damaged: {problems[0]}", where=path, fix=fix)]
    if counts is None:
        return [ok(Code.STATE, "the state file: not there yet, nothing is registered", path)]
    said = f"{counted(counts[0], 'workspace')}, {counted(counts[1], 'worktree')}"
    return [ok(Code.STATE, f"the state file: sound, {said}", path)]


def judge_history(kept: tuple[int, int, int], damaged: Sequence[int], size: str, path: str) -> list[Finding]:
    """`kept`: versions, conversations and removed ones; `damaged`: conversations with a version that is not whole."""
    if damaged:
        what = f"{counted(len(damaged), 'conversation')} with a kept version that is damaged, jp-c{damaged[0]} for one"
        return [warn(Code.HISTORY, what, where=path, fix=f"convsync history jp-c{damaged[0]}")]
    versions, conversations, removed = kept
    said = f"{counted(versions, 'version')} of {counted(conversations, 'conversation')}, {size}"
    return [ok(Code.HISTORY, f"the history: {said}; {removed} in the trash", path)]
