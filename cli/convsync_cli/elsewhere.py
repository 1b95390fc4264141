"""`--into PATH`: files for looking at, written where no conversation is."""

from __future__ import annotations

import os
from collections.abc import Sequence

from convsync_agent.bulk import Content, pieces
from convsync_agent.errors import Refused, storage_problem
from convsync_cli.context import Context


def require_outside(context: Context, into: str) -> None:
    """A copy for looking at must not become a conversation: not below any root, nor in our own places.

    Raises Refused, also where something is at PATH already.
    """
    from convsync_agent.dirs import jp_user_data_dir  # noqa: PLC0415
    from convsync_agent.layout import STORE, workspaces_dir  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    at = os.path.realpath(into)
    sites = open_sites(context).values()
    roots = {s.silo.root.path for s in sites} | {store for s in sites for store in s.trees}
    roots |= {workspaces_dir(jp_user_data_dir()), context.state_dir, context.data_dir}
    inside = any(at == r or at.startswith(r.rstrip("/") + "/") for r in map(os.path.realpath, roots))
    if inside or STORE in at.split("/"):
        raise Refused(
            "--into writes outside of every place that is synced or kept",
            where=at,
            hint="name a directory elsewhere, for example --into ./restored",
            code="inside-a-root",
        )
    _require_empty(into)


def _require_empty(into: str) -> None:
    try:
        taken = bool(os.listdir(into))
    except FileNotFoundError:
        taken = os.path.islink(into)
    except NotADirectoryError:
        taken = True
    except OSError as error:
        raise storage_problem(error, os.path.realpath(into), "look at that place") from None
    if taken:
        raise _in_the_way(into)


def _in_the_way(into: str) -> Refused:
    return Refused(
        "something is there already; nothing was written",
        where=os.path.realpath(into),
        hint="--into a directory that is new or empty",
    )


def write_files(place: str, files: Sequence[tuple[str, Content, int]]) -> list[str]:
    """Write (name, content, mtime ns) below a directory that is made for it. Returns the paths.

    Raises Refused where a file is in the way, StorageProblem.
    """
    paths = [os.path.join(place, name) for name, _, _ in files]
    try:
        for path, (_, content, mtime_ns) in zip(paths, files, strict=True):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.writelines(pieces(content))
            os.utime(path, ns=(mtime_ns, mtime_ns))
    except FileExistsError:
        raise _in_the_way(place) from None
    except OSError as error:
        raise storage_problem(error, place, "write the copy") from None
    return paths
