"""What `restore`, `undo` and `accept` say of what they wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convsync_cli import output
from convsync_cli.reports import worktree_of

if TYPE_CHECKING:
    from convsync_agent.restoring import Restored
    from convsync_cli.context import Context


def tell_restored(context: Context, body: dict[str, Any], done: Restored, headline: str) -> None:
    """`body` begins the JSON document and has `conversation`; `headline` begins the line for a person."""
    written = [worktree_of(r) for r in done.written]
    left = [{"worktree": worktree_of(r), "detail": detail} for r, detail in done.left]
    if context.as_json:
        output.document(body | {"written": written, "files": done.files, "left": left})
        return
    for one in left:
        output.line(output.colored(f"not written: {one['worktree']} ({one['detail']})", "yellow"))
    if context.quiet:
        return
    if written:
        output.line(f"{headline}; written: {', '.join(output.tilde(w) for w in written)}")
        output.line(f"what it replaced is kept: convsync history {body['conversation']}")
    else:
        output.line(f"{headline}; it was already, nothing was written")
