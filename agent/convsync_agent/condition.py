"""What is wrong with one workspace, by what was seen of its silo and its worktrees. Pure: facts in, findings out."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from convsync_agent.finding import Code, Finding, counted, error, ok, quoted, warn


class Link(StrEnum):
    """What `storage` in a silo is (contract 2.5)."""

    FINE = "fine"
    ABSENT = "absent"
    DANGLING = "dangling"
    ASTRAY = "astray"
    NO_LINK = "no link"


class Survey(NamedTuple):
    """One root, walked through by stats. `fault`: why it could not be. `closed`: what we cannot read and write."""

    fault: str = ""
    partition: str = "fine"  # or: absent, link, file
    live: int = 0
    archived: int = 0
    bytes: int = 0
    largest: int = 0
    doubled: tuple[int, ...] = ()
    odd: tuple[int, ...] = ()
    closed: tuple[int, ...] = ()
    foreign: tuple[int, ...] = ()
    ahead: tuple[int, ...] = ()
    times_ns: int = 0
    orphans: tuple[str, ...] = ()


class SiloSeen(NamedTuple):
    """`siblings`: other directories that JP would take for the silo of the same id."""

    workspace: str
    path: str
    there: bool
    named: bool = True
    siblings: tuple[str, ...] = ()
    link: Link = Link.FINE
    worktree: str = ""
    survey: Survey = Survey()


class TreeSeen(NamedTuple):
    """`found`: the workspace id that stands there, None for none; `ignored`: by git, None where there is no git."""

    path: str
    workspace: str
    there: bool
    found: str | None = None
    paused: bool = False
    ignored: bool | None = None
    survey: Survey = Survey()


def judge_silent(role: str, path: str) -> Finding:
    fix = f"mount | grep {quoted(path.rpartition('/')[0])}  # mount it anew, or: umount -l"
    return error(Code.SILENT, f"the file system of this {role} does not answer", where=path, fix=fix)


def judge_silo(silo: SiloSeen) -> list[Finding]:
    path, typed = silo.path, quoted(silo.path)
    again = f"convsync register {quoted(silo.worktree)}" if silo.worktree else "convsync register WORKTREE"
    if not silo.there:
        fix = f"mount it if it is on a disk of its own, else: {again}"
        return [error(Code.SILO, f"the silo of {silo.workspace} is gone", where=path, fix=fix)]
    found = []
    if not silo.named:
        fix = f"mv {typed} {typed}-{silo.workspace}; {again}"
        found.append(
            error(Code.SILO, f"JP does not find it: the name does not end in {silo.workspace}", where=path, fix=fix)
        )
    if silo.siblings:
        what = f"{len(silo.siblings) + 1} silos for workspace {silo.workspace}; JP uses one of them"
        found.append(warn(Code.SILO, what, where=silo.siblings[0], fix="convsync migrate"))
    found += [*_link(silo, typed), *_root(silo.survey, "silo", path)]
    if any(f.code in (Code.SILO, Code.PERMISSIONS) for f in found):
        return found + _locks(silo.survey, stray=False)
    seen = silo.survey
    said = f"silo of {silo.workspace}: {seen.live} live, {seen.archived} archived, all readable"
    return [ok(Code.SILO, said, path), *found, *_locks(seen, stray=False)]


def _link(silo: SiloSeen, typed: str) -> list[Finding]:
    if silo.link in (Link.FINE, Link.ABSENT):  # JP makes an absent one
        return []
    where = f"{silo.path}/storage"
    if silo.link is Link.NO_LINK:
        what = "`storage` in the silo is not a symlink: no jp can run in this workspace"
        return [error(Code.STORAGE_LINK, what, where=where, fix=f"mv {typed}/storage {typed}/storage.aside")]
    what = {
        Link.DANGLING: "`storage` in the silo leads to a worktree that is gone",
        Link.ASTRAY: "`storage` in the silo leads to something else than a worktree of this workspace",
    }[silo.link]
    fix = f"cd {quoted(silo.worktree)} && jp conversation ls" if silo.worktree else "run jp in a worktree"
    return [warn(Code.STORAGE_LINK, what, where=where, fix=f"{fix}  # JP sets it anew")]


def _root(seen: Survey, role: str, path: str) -> list[Finding]:
    """What holds for a silo and for a worktree. `path`: of what holds `conversations`."""
    typed, code = quoted(path), Code.SILO if role == "silo" else Code.WORKTREE
    inside = quoted(f"{path}/conversations")
    if seen.fault:
        fix = f"chmod -R u+rwX {typed}; ls -la {typed}"
        return [error(code, f"the {role} cannot be listed ({seen.fault})", where=path, fix=fix)]
    if seen.partition == "link":
        fix = f"rm {inside} && mkdir {inside}, then: convsync register  # what it points to stays"
        return [error(code, f"`conversations` in this {role} is a symlink", where=path, fix=fix)]
    if seen.partition == "file":
        fix = f"mv {inside} {inside}.aside"
        return [error(code, f"`conversations` in this {role} is not a directory", where=path, fix=fix)]
    found = []
    if seen.partition == "absent" and role == "silo":
        fix = "mount it if it is on a disk of its own, else: convsync register WORKTREE"
        found.append(error(code, "`conversations` of the silo is gone", where=path, fix=fix))
    if seen.doubled:
        what = f"{counted(len(seen.doubled), 'conversation')} twice in one {role}, {_one(seen.doubled)}"
        found.append(warn(code, what, where=path, fix="convsync status  # JP would delete one of the two"))
    if seen.odd:
        what = f"{counted(len(seen.odd), 'entry')} that JP cannot load in this {role}, {_one(seen.odd)}"
        found.append(warn(code, what.replace("entrys", "entries"), where=path, fix="convsync status"))
    if seen.closed:
        what = f"{counted(len(seen.closed), 'conversation')} cannot be read and written, {_one(seen.closed)}"
        found.append(error(Code.PERMISSIONS, what, where=path, fix=f"chmod -R u+rwX {inside}"))
    if seen.foreign:
        what = f"{counted(len(seen.foreign), 'conversation')} of another user, {_one(seen.foreign)}"
        found.append(warn(Code.PERMISSIONS, what, where=path, fix=f'sudo chown -R "$(id -un)" {inside}'))
    return found


def _one(conversations: tuple[int, ...]) -> str:
    return f"jp-c{min(conversations)} for one" if len(conversations) > 1 else f"jp-c{conversations[0]}"


def _locks(seen: Survey, *, stray: bool) -> list[Finding]:
    if not seen.orphans:
        return []
    number = counted(len(seen.orphans), "lock file")
    if stray:
        what = f"{number} beside a worktree that nobody holds: jp here may lock another file than elsewhere"
        fix = f"rm {quoted(seen.orphans[0])}  # with no jp running; convsync locks"
        return [warn(Code.LOCKS, what, where=seen.orphans[0], fix=fix)]
    what = f"{number} that nobody holds: a jp was killed; the next one removes them"
    return [warn(Code.LOCKS, what, where=seen.orphans[0], fix="convsync locks")]


def judge_tree(tree: TreeSeen) -> list[Finding]:
    path, typed = tree.path, quoted(tree.path)
    if not tree.there:
        what = "a registered worktree is gone; its durable copies are not"
        fix = f"convsync unregister {typed}  # if it does not come back"
        return [warn(Code.WORKTREE, what, where=path, fix=fix)]
    store = f"{path}/.jp"
    if not tree.survey.fault and tree.found is None:
        fix = f"git -C {typed} checkout -- .jp/.id; convsync register {typed}"
        return [error(Code.WORKTREE, "`.jp/.id` has no workspace id", where=store, fix=fix)]
    if not tree.survey.fault and tree.found != tree.workspace:
        what = f"another workspace is here now: {tree.found}, not {tree.workspace}"
        return [warn(Code.WORKTREE, what, where=path, fix=f"convsync register {typed}")]
    found = [*_root(tree.survey, "worktree", store), *_locks(tree.survey, stray=True)]
    if tree.paused:
        found.append(warn(Code.WORKTREE, "this worktree is paused", where=path, fix=f"convsync resume {typed}"))
    said = f"worktree of {tree.workspace}: {counted(tree.survey.live, 'projection')}"
    if tree.ignored is not None:
        said += ", which git ignores" if tree.ignored else ", which git commits"
    return found or [ok(Code.WORKTREE, said, path)]
