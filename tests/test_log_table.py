"""docs/logging.md lists every line that is logged, with its level and its logger, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[1]
AGENT, PAGE = TOP / "agent" / "convsync_agent", TOP / "docs" / "logging.md"
pytestmark = pytest.mark.skipif(not (AGENT.is_dir() and PAGE.exists()), reason="source and documents are elsewhere")

LEVELS = {"debug": "debug", "info": "info", "warning": "warning", "error": "error", "exception": "error"}
LOGGERS = ("log", "_log", "logger", "_logger")


class Line(NamedTuple):
    level: str
    event: str
    logger: str


def calls() -> list[tuple[str, ast.Call, str]]:
    """Every call that logs: where, the call, and the name of its logger."""
    found = []
    for path in sorted([*AGENT.rglob("*.py"), *(TOP / "cli" / "convsync_cli").rglob("*.py")]):
        if path.name == "logs.py":
            continue
        tree = ast.parse(path.read_text())
        name = next((n for node in ast.walk(tree) if (n := logger_of(node))), "")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in LOGGERS:
                    found.append((f"{path.stem}:{node.lineno}", node, name or path.stem))
    return found


def logger_of(node: ast.AST) -> str:
    """The name in `log = logs.get("name")`."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and node.value.args:
        first = node.value.args[0]
        if ast.unparse(node.value.func) == "logs.get" and isinstance(first, ast.Constant):
            return str(first.value)
    return ""


def test_an_event_is_a_fixed_phrase():
    """What varies goes into the facts; only the type of an error may follow it."""
    for where, call, _ in calls():
        assert call.args, where
        assert isinstance(call.args[0], ast.Constant), where
        assert isinstance(call.args[0].value, str), where
        phrase = call.args[0].value.removesuffix(": %s")
        assert re.fullmatch(r"[a-z][a-z ]*", phrase), f"{where}: {phrase}"
        assert len(call.args) == 1 or call.args[0].value.endswith(": %s"), where


def test_the_table_is_the_code():
    """The other way round as well: what is not logged any more is not in it."""
    logged = set()
    for _, call, logger in calls():
        assert isinstance(call.func, ast.Attribute)
        assert isinstance(call.args[0], ast.Constant)
        logged.add(Line(LEVELS[call.func.attr], call.args[0].value.removesuffix(": %s"), logger))
    rows = re.findall(r"^\| `(\w+)` \| `([a-z ]+)` \| ([a-z, ]+) \|", PAGE.read_text(), re.MULTILINE)
    table = {Line(level, event, logger) for level, event, loggers in rows for logger in loggers.split(", ")}

    assert sorted(logged - table) == [], "logged and not in the table"
    assert sorted(table - logged) == [], "in the table and not logged"
    assert len(rows) == len(set(rows))


def test_no_fact_is_chat_text():
    """The names of facts are known: none is a title, a slug, a name of a directory or a file (R9)."""
    names = {k.arg for _, call, _ in calls() for k in call.keywords if k.arg}

    assert not names & {"title", "slug", "name", "dirname", "directory", "file", "path", "text", "content", "events"}
