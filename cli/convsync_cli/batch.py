"""Several targets, one after the other: what fails is told and does not stop the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from convsync_agent.errors import ConvsyncError
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_cli.target import Target

T = TypeVar("T")


class Failure(NamedTuple):
    target: Target
    error: ConvsyncError


def each(targets: Sequence[Target], act: Callable[[Target], T]) -> tuple[list[tuple[Target, T]], list[Failure]]:
    """What became of each. A single target that fails raises, as any command does."""
    done: list[tuple[Target, T]] = []
    failed: list[Failure] = []
    for target in targets:
        try:
            done.append((target, act(target)))
        except ConvsyncError as error:
            if len(targets) == 1:
                raise
            failed.append(Failure(target, error))
    return done, failed


def as_failed(failed: Sequence[Failure]) -> dict[str, Any]:
    """The part of a document that says which failed; no part where none did."""
    rows = [{"conversation": f.target.id, "code": f.error.code, "message": str(f.error)} for f in failed]
    return {"failed": rows} if rows else {}


def exit_code(failed: Sequence[Failure], *, as_json: bool) -> int:
    """The code of the first failure; each is said in its two lines, off `--json`."""
    for one in failed if not as_json else ():
        output.error(one.error, as_json=False)
    return failed[0].error.exit_code if failed else 0
