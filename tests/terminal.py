"""What a process prints on a terminal of its own."""

from __future__ import annotations

import os


def everything(ours: int, answer: bytes | None = None, question: bytes = b"?") -> str:
    """Read our side until the last process that has the other one is gone; `answer` the first `question`."""
    seen = b""
    while True:
        if answer is not None and question in seen:
            os.write(ours, answer + b"\n")
            answer = None
        try:
            piece = os.read(ours, 65536)
        except OSError:  # EIO: nobody has it any more
            break
        if not piece:
            break
        seen += piece
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")
