"""Bring back a conversation that was removed: `trash restore`.

The kept copy is put back whole and with the times it had, and the tombstone goes. What is left over in the
worktrees is in step with it then, or the newest wins as always. Where nothing is kept, what is left over in a
worktree is made durable. A durable copy that is there is never touched.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from convsync_agent import fs, layout
from convsync_agent.bulk import Content
from convsync_agent.chosen import being_written, look
from convsync_agent.contention import lock_held, wait_for_lock
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused, StorageProblem, storage_problem
from convsync_agent.model import BOTH, Copy, Grade, Partition
from convsync_agent.names import id_text
from convsync_agent.plan import Lift, Plan, PutBack
from convsync_agent.results import Done, Failed
from convsync_agent.settling import settle
from convsync_agent.shelter import Shelter
from convsync_agent.site import Site

RETRY_SECONDS = 0.1
UNSTABLE_TRIES = 30


class Revived(NamedTuple):
    """`path`: of the durable copy. `source`: '' for the kept copy, else the root whose left-over it was made of."""

    path: str
    source: str
    partition: Partition


def revive(engine: Engine, site: Site, conversation: int, *, patience: float) -> Revived:
    """Make the durable copy again. Waits up to `patience` seconds for JP's lock.

    The engine's import policy has to be `auto`, or a left-over waits for what made it so. Raises NotFound (nothing
    is left), Refused (it is there, or what is left is not whole), LockHeld, StorageProblem.
    """
    deadline = time.monotonic() + patience
    unstable = 0
    while True:
        wait_for_lock(site, conversation, deadline)
        copies = look(engine, site, conversation)
        require_gone(copies, conversation)
        action = _action(engine, site, conversation, copies)
        [result] = engine.perform(site, Plan((action,)))
        if isinstance(result, Done):
            break
        if isinstance(result, Failed):
            raise _failed(site, result)
        unstable += result.reason == "unstable"
        if result.reason == "locked" and time.monotonic() >= deadline:
            raise lock_held(site, conversation)
        if unstable > UNSTABLE_TRIES:
            raise being_written(conversation)
        time.sleep(RETRY_SECONDS)
    engine.contents.clear()
    outcome = settle(engine, site, {conversation})
    if not site.silo.listing.places(conversation):  # a left-over that could not be made durable
        raise _failed(site, outcome.failed[0]) if outcome.failed else being_written(conversation)
    return _revived(site, conversation, action, copies)


def require_gone(copies: Sequence[Copy], conversation: int) -> None:
    """Raises Refused where the silo has a copy, in either partition."""
    if any(c.root.is_silo for c in copies):
        raise there_already(conversation)


def there_already(conversation: int) -> Refused:
    name = id_text(conversation)
    return Refused(
        "it is not removed: its durable copy is there",
        where=name,
        hint=f"convsync history {name} (for an older version), or: convsync trash restore {name} --into PATH",
        code="not-removed",
    )


def read_kept(shelter: Shelter, workspace: str, conversation: int) -> list[tuple[str, Content, int]]:
    """(name, content, mtime ns) of every file of the kept copy. Raises NotFound, StorageProblem."""
    try:
        return shelter.read(workspace, conversation)
    except FileNotFoundError:
        raise _nothing_kept(conversation) from None
    except (fs.ChangedError, ValueError):
        name = id_text(conversation)
        raise StorageProblem(
            "its kept copy is damaged", where=name, hint=f"convsync history {name}", code="damaged"
        ) from None
    except OSError as error:
        raise storage_problem(error, shelter.data_dir, "read the kept copy") from None


def _action(engine: Engine, site: Site, conversation: int, copies: Sequence[Copy]) -> PutBack | Lift:
    """What brings it back: the kept copy, or else a left-over that is whole and valid.

    The kept copy is read once before: a damaged one is said to be so, not tried again and again.
    """
    shelter, silo = engine.vault.shelter, site.silo.root
    kept = shelter.held(site.id, conversation)
    if kept is not None and kept.whole:
        read_kept(shelter, site.id, conversation)
        newest = max(copies, key=lambda c: c.metadata.mtime_ns, default=None)
        return PutBack(conversation, silo, newest.name if newest else None, "")
    if any(c.whole and all(c.unit(u).grade is Grade.VALID for u in BOTH) for c in copies):
        return Lift(conversation, silo)
    if kept is None and not copies:
        raise _nothing_kept(conversation)
    name = id_text(conversation)
    hint = f"convsync trash restore {name} --into PATH" if kept else f"mend the copy that is left: convsync show {name}"
    raise Refused("what is left of it is not whole", where=name, hint=hint, code="not-whole")


def _nothing_kept(conversation: int) -> NotFound:
    name = id_text(conversation)
    return NotFound("nothing is kept of it in the trash", where=name, hint=f"convsync history {name}", code="not-kept")


def _failed(site: Site, result: Failed) -> StorageProblem:
    problem = result.problem
    where = problem.root.path if problem.root else site.silo.root.path
    return StorageProblem(problem.detail, where=where, hint="convsync status", code=problem.kind)


def _revived(site: Site, conversation: int, action: PutBack | Lift, copies: Sequence[Copy]) -> Revived:
    place = site.silo.listing.places(conversation)[0]
    partition = Partition.ARCHIVED if place.archived else Partition.LIVE
    path = layout.copy_path(site.silo.root, partition, place.name)
    source = "" if isinstance(action, PutBack) else max(copies, key=lambda c: c.stream.mtime_ns).root.path
    return Revived(path, source, partition)
