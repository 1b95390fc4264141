"""A support bundle: documents in one compressed file that only its owner can read, and that names nobody."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import os
import tarfile
from collections.abc import Mapping

from convsync_agent import kernel
from convsync_agent.errors import Refused, storage_problem

TOP = "convsync-support"


def require_free(path: str) -> None:
    """Refuse a name that is taken. Raises Refused."""
    if os.path.lexists(path):
        raise Refused(
            "there is something under this name; nothing was written",
            where=path,
            hint="name another file: convsync doctor --bundle FILE",
            code="exists",
        )


def write(path: str, documents: Mapping[str, str]) -> int:
    """The bytes written. Raises Refused when the name is taken, StorageProblem when it cannot be written."""
    require_free(path)
    packed = pack(documents)
    made = False
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        made = True
        with os.fdopen(fd, "wb") as file:
            file.write(packed)
            file.flush()
            kernel.fsync(fd)
    except OSError as error:
        if error.errno == errno.EEXIST:
            require_free(path)
        if made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise storage_problem(error, path, "write the bundle") from None
    return len(packed)


def pack(documents: Mapping[str, str]) -> bytes:
    """One tar.gz: no names of users, no times."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as archive,
    ):
        for name, text in documents.items():
            raw = text.encode("utf-8", "backslashreplace")
            entry = tarfile.TarInfo(f"{TOP}/{name}")
            entry.size, entry.mode = len(raw), 0o600
            archive.addfile(entry, io.BytesIO(raw))
    return packed.getvalue()
