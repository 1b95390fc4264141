"""The documents, read: their blocks, their prose, the commands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).parents[1]
DOCS = TOP / "docs"
PAGES = sorted(
    p.relative_to(TOP).as_posix()
    for p in [*TOP.glob("*.md"), *DOCS.rglob("*.md"), *TOP.glob("systemd/*.md"), *TOP.glob("launchd/*.md")]
)


class Block(NamedTuple):
    """One fenced block: its language, its text, and the line it begins on."""

    language: str
    text: str
    line: int


class Step(NamedTuple):
    """One command of a document. `expected` None: what it prints is not shown there."""

    command: str
    expected: str | None
    exit_code: int
    where: str


def read(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    text = read(page)
    return [
        Block(m[1], m[2], text[: m.start()].count("\n") + 1)
        for m in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    ]


def prose(page: str) -> str:
    """The document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", read(page), flags=re.DOTALL | re.MULTILINE)


def steps(page: str) -> list[Step]:
    """Every command in the order of reading."""
    found: list[Step] = []
    for block in blocks(page):
        told = re.search(r"^# exit (\d+)$", block.text, re.MULTILINE)
        code, where = int(told[1]) if told else 0, f"{page}:{block.line}"
        lines = [line for line in block.text.splitlines() if not line.startswith("# ")]
        if block.language == "sh":
            found += [Step(line, None, code, where) for line in lines if line.strip()]
        elif block.language == "console":
            shown: list[list[str]] = []
            for line in lines:
                if line.startswith("$ "):
                    shown.append([line[2:]])
                else:
                    shown[-1].append(line)
            found += [Step(c, "\n".join(out).strip("\n") if out else None, code, where) for c, *out in shown]
    return found
