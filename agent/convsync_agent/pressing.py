"""Press what is held by links into compressed objects, and make kept copies durable; a little at each call.

A write in place goes through a hard link. So a link is exchanged within a minute, its digest is checked
while it is compressed, and content that is not what was held goes to the history before the entry goes.
What crashes left in a place is cleared here too, never unread.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from convsync_agent import fs, grip, keepsake, kernel, objects
from convsync_agent import plot as places
from convsync_agent.digest import content_digest
from convsync_agent.keepsake import MANIFEST, HeldFile, How, Keepsake
from convsync_agent.model import Stamp
from convsync_agent.plot import Plot

OLDER_MS = 30_000  # a link lives no longer than this and the pause of whoever calls

Save = Callable[[str, int, str, bytes, int], None]
"""Keeps (workspace, conversation, file, bytes, mtime ns) in the history unless they are safe elsewhere.

The file is a name below the directory of the conversation, or "extra" where it is not known any more.
"""


class Bumped(NamedTuple):
    """A file of a root lost its second name, which gave it this stamp: a new ctime, nothing else."""

    workspace: str
    conversation: int
    name: str
    stamp: Stamp


@dataclass(slots=True)
class Pressed:
    """What one call did. `waiting`: places that are due and not finished, at least so many; 0 means all is done."""

    files: int = 0
    bytes: int = 0
    saved: int = 0
    waiting: int = 0
    bumped: list[Bumped] = field(default_factory=list)


@dataclass(slots=True)
class Budget:
    """How much may still be done. At least one file is done, however large."""

    files: int
    bytes: int

    @property
    def spent(self) -> bool:
        return self.files <= 0 or self.bytes <= 0


def press(data_dir: str, now_ms: int, save: Save, budget: Budget, *, older_ms: int = OLDER_MS) -> Pressed:
    """Work on what has been due for `older_ms` (or since after now: the clock went back), within the budget.

    An OSError of one place does not stop the others; the first is raised at the end.
    """
    done = Pressed()
    trouble: OSError | None = None
    for place in places.plots(data_dir, due=True):
        since = places.marked_ms(place)
        if since is None or 0 <= now_ms - since < older_ms:
            continue
        if budget.spent:
            done.waiting += 1
            break  # there may be more: nobody looks now
        try:
            done.waiting += not _press_place(place, save, budget, done)
        except (OSError, fs.OddFileError) as error:
            done.waiting += 1
            odd = OSError(errno.EINVAL, f"{error} in our trash")
            trouble = trouble or (error if isinstance(error, OSError) else odd)
    if trouble is not None:
        raise trouble
    return done


def _press_place(place: Plot, save: Save, budget: Budget, done: Pressed) -> bool:
    """True: nothing is due here any more."""
    try:
        with places.locked(place):
            try:
                have = keepsake.load(place)
            except ValueError:  # what it needs is not known: nothing of it goes
                places.unmark(place)
                return True
            have = have and _exchange(place, have, save, budget, done)
            finished = _sweep(place, have, save, budget, done)
            if finished and not (have and any(f.how is How.LINK for f in have.files)):
                places.unmark(place)
                places.leave(place)
                return True
            return False
    except FileNotFoundError:
        if not os.path.lexists(place.path):
            places.unmark(place)
            return True
        raise


def _exchange(place: Plot, have: Keepsake, save: Save, budget: Budget, done: Pressed) -> Keepsake | None:
    """Objects first, then the manifest, then the links go."""
    files: list[HeldFile] = []
    going: list[HeldFile] = []
    for file in have.files:
        pressed: HeldFile | None = file
        seen = file
        if file.how is How.LINK and not budget.spent:
            pressed, seen = _pressed(place, file, save, budget, done)
        if pressed is not None:
            files.append(pressed)
        if pressed != file:
            going.append(seen)
    if not going and any(f.how is How.LINK for f in files):
        return have  # nothing could be done
    now = replace(have, files=tuple(files))
    if files:
        for file in have.files:
            if file.how is not How.LINK:
                _make_durable(place, file)
        keepsake.publish(place, now, sync=True)
    else:
        objects.unlink(place.file(MANIFEST))
        places.sync(place)
    for file in {f.held: f for f in going if f.held not in {n.held for n in files}}.values():
        _unlink(place, file, done)
    return now if files else None


def _make_durable(place: Plot, file: HeldFile) -> None:
    with contextlib.suppress(FileNotFoundError), objects.opened(place.file(file.held)) as fd:
        kernel.fsync(fd)


def _pressed(
    place: Plot, file: HeldFile, save: Save, budget: Budget, done: Pressed
) -> tuple[HeldFile | None, HeldFile]:
    """The file as compressed; itself where it is being written to; None where its content went to the history.

    With it the link as it was read, which is what may be let go of.
    """
    path = place.file(file.held)
    try:
        if os.stat(path).st_nlink > 1:
            with fs.opened_dir(place.path) as fd:
                found = fs.read_file(file.held, fd)
        else:
            words = grip.last_words(path)
            if words is None:
                return file, file
            found = words
    except FileNotFoundError:
        return None, file  # somebody cleared our trash by hand
    except fs.ChangedError:
        return file, file
    raw, stamp = found
    budget.files -= 1
    budget.bytes -= len(raw)
    digest, seen = content_digest(raw).hex(), replace(file, size=stamp.size, mtime_ns=stamp.mtime_ns)
    if digest != file.digest:
        save(place.workspace, place.conversation, file.name, raw, stamp.mtime_ns)
        done.saved += 1
        return None, seen
    held = grip.pack(raw, digest, place.path, sync=True)
    done.files += 1
    done.bytes += len(raw)
    return replace(file, held=held), seen


def _unlink(place: Plot, file: HeldFile, done: Pressed) -> None:
    """Take a link away whose content is held otherwise now. One that changed meanwhile waits for `_sweep`."""
    path = place.file(file.held)
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if grip.release(path, file) and (left := os.fstat(fd)).st_nlink:
                done.bumped.append(Bumped(place.workspace, place.conversation, file.name, fs.stamp_of(left)))
        finally:
            os.close(fd)


def _sweep(place: Plot, have: Keepsake | None, save: Save, budget: Budget, done: Pressed) -> bool:
    """Clear what no manifest names. True: nothing such is left."""
    needed = {f.held for f in have.files} if have else set[str]()
    finished = True
    for name in objects.names_in(place.path):
        ours = name.startswith(objects.TEMP) or name.endswith((".gz", ".raw", ".link"))
        if name in needed or not ours:
            continue
        path = place.file(name)
        if grip.release(path, None):
            continue
        words = None
        if not budget.spent:
            with contextlib.suppress(fs.ChangedError):
                words = grip.last_words(path)
        if words is None:
            finished = False
            continue
        raw, stamp = words
        budget.files -= 1
        budget.bytes -= len(raw)
        save(place.workspace, place.conversation, grip.kind_of(name), raw, stamp.mtime_ns)
        done.saved += 1
        os.unlink(path)
    return finished
