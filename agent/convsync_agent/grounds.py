"""What a file system is worth as the ground of a root: does it tell of changes, who else writes, how fine its times.

Pure: `habitat` looks, and here is what it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from convsync_agent.finding import Code, Finding, amount, counted, duration, error, ok, quoted, warn

MARKERS = {
    ".dropbox": "Dropbox",
    ".dropbox.cache": "Dropbox",
    ".stfolder": "Syncthing",
    ".tmp.drivedownload": "Google Drive",
    ".nextcloudsync.log": "Nextcloud",
    ".owncloudsync.log": "ownCloud",
}
"""What a program that carries files between machines leaves in the directory it carries."""

_NAMES = (
    ("Dropbox", r"Dropbox(?: \(.+\))?"),
    ("OneDrive", r"OneDrive(?: ?- ?.+)?"),
    ("iCloud", r"Mobile Documents|com~apple~CloudDocs|iCloud ?Drive(?: .*)?"),
    ("Google Drive", r"Google ?Drive(?:-.+)?|My Drive"),
    ("Nextcloud", r"Nextcloud"),
    ("a cloud drive", r"CloudStorage"),
)
_FOLDERS = tuple((who, re.compile(pattern)) for who, pattern in _NAMES)

SECOND = 1_000_000_000
COARSE_NS = 10_000_000  # the clock of a kernel ticks every 1 to 10 ms; what is finer than that is fine
_STEPS = (1, 10, 100, 1_000, 10_000, 1_000_000, 10_000_000, 100_000_000, SECOND, 2 * SECOND)
ENOUGH_TIMES = 8
LITTLE = 32_000_000  # bytes: below, what a plan needs to stage may not fit
FEW_INODES, INODES_EACH = 100, 6  # a kept version: its directory, its manifest, its objects


class Ground(NamedTuple):
    """One directory that we or JP write in. `inodes` None: its file system has no fixed number of them.

    `needed`: bytes, should every conversation be edited at once; `conversations`: how many those are.
    """

    role: str
    path: str
    device: int
    kind: str | None = None
    silent: bool = False
    carrier: str = ""
    free: int = 0
    inodes: int | None = None
    needed: int = 0
    conversations: int = 0
    times_ns: int = 0
    ours: bool = False


def sync_folder(path: str, markers: Iterable[str] = ()) -> str:
    """Who carries this directory to other machines, by the names in its path and what lies there; '' for nobody."""
    found = next((MARKERS[m] for m in markers if m in MARKERS), "")
    parts = path.split("/")
    return found or next((who for who, name in _FOLDERS if any(name.fullmatch(p) for p in parts)), "")


def granule(times: Iterable[int]) -> int:
    """The step, ns, that all these times are multiples of; 0 where they are too few to tell."""
    seen = list(times)
    if len(seen) < ENOUGH_TIMES:
        return 0
    return max(step for step in _STEPS if all(t % step == 0 for t in seen))


def kept_step(wanted: int, got: int) -> int:
    """The step of a file system that was told one time and gives back another."""
    return next((step for step in _STEPS if wanted - wanted % step == got), 2 * SECOND)


def judge_grounds(grounds: list[Ground]) -> list[Finding]:
    """All that is wrong with any of them, and one line for each subject where nothing is."""
    kinds = ", ".join(sorted({g.kind or "unknown" for g in grounds}))
    return [
        *([f for g in grounds for f in _network(g)] or [ok(Code.FILE_SYSTEM, f"local file systems ({kinds})")]),
        *([f for g in grounds for f in _carried(g)] or [ok(Code.SYNC_FOLDER, "nothing is in a sync folder")]),
        *_times(grounds),
        *_space(grounds),
        *_inodes(grounds),
    ]


def _network(ground: Ground) -> list[Finding]:
    if not ground.silent:
        return []
    what = f"the {ground.role} is on {ground.kind}"
    if ground.role == "state directory":
        fix = "export CONVSYNC_STATE_DIR=$HOME/.convsync-state  # or another local disk, for the agent too"
        return [error(Code.FILE_SYSTEM, f"{what}: SQLite's log is not safe there", where=ground.path, fix=fix)]
    what += ": changes made elsewhere are not heard, it is looked at in turns"
    fix = "keep it on a local disk; docs/doctor.md#file-system says what is lost"
    return [warn(Code.FILE_SYSTEM, what, where=ground.path, fix=fix)]


def _carried(ground: Ground) -> list[Finding]:
    if not ground.carrier:
        return []
    what = f"the {ground.role} is carried to other machines by {ground.carrier}"
    if ground.ours:
        return [warn(Code.SYNC_FOLDER, what, where=ground.path, fix="exclude that directory there")]
    fix = f"exclude .jp there, or: git worktree move {quoted(ground.path)} ELSEWHERE"
    return [warn(Code.SYNC_FOLDER, what, where=ground.path, fix=fix if ground.role == "worktree" else "exclude it")]


def _times(grounds: list[Ground]) -> list[Finding]:
    coarse = [g for g in grounds if g.times_ns > COARSE_NS]
    fix = "keep it on ext4, xfs, btrfs, zfs or APFS; until then edits in one step of time look equal to JP"
    found = [
        warn(Code.MTIME, f"the {g.role} keeps times only to {duration(g.times_ns)}", where=g.path, fix=fix)
        for g in coarse
    ]
    return found or [ok(Code.MTIME, f"times are kept to {duration(max(g.times_ns for g in grounds))}")]


def _by_device(grounds: list[Ground]) -> list[list[Ground]]:
    devices: dict[int, list[Ground]] = {}
    for ground in grounds:
        devices.setdefault(ground.device, []).append(ground)
    return list(devices.values())


def _space(grounds: list[Ground]) -> list[Finding]:
    found, least = [], None
    for group in _by_device(grounds):
        first, needed = group[0], sum(g.needed for g in group)
        least = first.free if least is None else min(least, first.free)
        fix = f"df -h {quoted(first.path)}  # then free some"
        what = f"{amount(first.free)} free for the {first.role}"
        if first.free < LITTLE:
            found.append(error(Code.SPACE, what, where=first.path, fix=fix))
        elif first.free < needed:
            what += f"; {amount(needed)} if everything is edited at once"
            found.append(warn(Code.SPACE, what, where=first.path, fix=fix))
    return found or [ok(Code.SPACE, f"{amount(least or 0)} free at least, where anything is written")]


def _inodes(grounds: list[Ground]) -> list[Finding]:
    found, least = [], None
    for group in _by_device(grounds):
        first, needed = group[0], INODES_EACH * sum(g.conversations for g in group)
        if first.inodes is None:
            continue
        least = first.inodes if least is None else min(least, first.inodes)
        fix = f"df -i {quoted(first.path)}  # then remove files that are not needed"
        what = f"{counted(first.inodes, 'more file')} can be made for the {first.role}"
        if first.inodes < FEW_INODES:
            found.append(error(Code.INODES, what, where=first.path, fix=fix))
        elif first.inodes < needed:
            found.append(warn(Code.INODES, f"{what}; {needed} may be needed", where=first.path, fix=fix))
    return found or [ok(Code.INODES, f"{least} files can be made" if least is not None else "no limit on files here")]
