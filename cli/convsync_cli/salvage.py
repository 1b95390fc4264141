"""What was edited and could not be written is kept: in the history, else where it lies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convsync_agent import fs
from convsync_agent.errors import ConvsyncError, Refused, StorageProblem, kind_of, reason_of
from convsync_agent.model import MANAGED
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_agent.editing import Edited
    from convsync_agent.scratch import Scratch
    from convsync_cli.context import Context
    from convsync_cli.target import Target


class Salvage:
    """`root`: the root of the copy that jp would have opened, for the history."""

    def __init__(self, context: Context, found: Target, private: Scratch, root: str) -> None:
        self.context, self.found, self.private, self.root = context, found, private, root

    def not_written(self, error: BaseException, edited: Edited) -> None:
        """Keep it, and raise the error anew with the command that brings it; nothing, where the durable copy has it."""
        from convsync_agent.abandoned import keep_edited  # noqa: PLC0415
        from convsync_agent.editing import is_durable  # noqa: PLC0415
        from convsync_agent.history import History  # noqa: PLC0415

        found = self.found
        with self._or_stays():
            try:
                with self.context.engine() as engine:
                    site = engine.sites.get(found.workspace)
                    if site is not None and is_durable(engine, site, found.conversation, edited):
                        return
            except (ConvsyncError, OSError):
                pass  # then nothing is known to be safe
            history = History(self.context.data_dir)
            versions = keep_edited(history, found.workspace, found.conversation, edited, root=self.root)
        if not isinstance(error, ConvsyncError):
            output.note(f"not written; your text is kept: {self._restore(versions)}")
            return
        text = f"{error.message}; your text is kept"
        raise type(error)(text, where=error.where, hint=self._restore(versions), code=error.code) from None

    def ended(self, number: int) -> BaseException:
        """A signal ended the editor: nothing is written, what nobody else has is kept. The error that says so."""
        versions = self._keep(beside=False)
        if number == signal.SIGINT and not versions:
            return KeyboardInterrupt()
        kept = "; what it had saved is kept" if versions else ""
        hint = self._restore(versions) if versions else f"convsync edit {self.found.id}"
        text = f"signal {number} ended the editor; nothing was changed{kept}"
        return Refused(text, where=self.found.id, hint=hint, code="editor")

    def beside(self) -> list[str]:
        """The versions in which files are kept that somebody put beside those that are edited."""
        if set(os.listdir(self.private.folder)) <= set(MANAGED):
            return []
        return self._keep(beside=True)

    def _keep(self, *, beside: bool) -> list[str]:
        from convsync_agent.abandoned import NOT_TAKEN, keep_left  # noqa: PLC0415

        found = self.found
        with self._or_stays(), self.context.engine() as engine:
            return keep_left(
                engine,
                found.workspace,
                found.conversation,
                self.private.folder,
                root=self.root,
                why=NOT_TAKEN,
                beside=beside,
            )

    def _restore(self, versions: list[str]) -> str:
        return " && ".join(f"convsync restore {self.found.id} --version {v}" for v in versions)

    @contextmanager
    def _or_stays(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.private.stays = True
            if not isinstance(error, ConvsyncError | OSError | ValueError | fs.ChangedError | fs.OddFileError):
                raise  # a second Ctrl-C: the next `edit` finds it
            reason = reason_of(error) if isinstance(error, OSError) else str(error) or type(error).__name__
            code = kind_of(error) if isinstance(error, OSError) else "io"
            raise StorageProblem(
                f"your text can be written nowhere else ({reason}); it stays there",
                where=self.private.folder,
                hint="make space or mend the disk, then copy it or edit again",
                code=code,
            ) from None
