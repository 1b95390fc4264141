"""The shape of the code: what may import what, who owns what, how long a file may be. Read from the source itself."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

TOP = Path(__file__).parents[1]
AGENT, CLI = TOP / "agent" / "convsync_agent", TOP / "cli" / "convsync_cli"
pytestmark = pytest.mark.skipif(not AGENT.is_dir(), reason="the source is not beside the tests")

# Decisions and nouns: pure functions on frozen data.
CORE = frozenset({
    "absence", "acts", "alignment", "alnum", "anonymity", "bulk", "condition", "content", "contest", "diagnosis",
    "digest", "errors", "eventdiff", "excerpt", "expiry", "exposition", "finding", "gitevidence", "gitindex",
    "grounds", "growth", "hints", "imports", "leaks", "meter", "model", "names", "passage", "plan", "plist",
    "progress", "rawjson", "receipt", "reconcile", "redact", "results", "rules", "safety", "service", "session",
    "settings", "stale", "stream_json", "strict_json", "summary", "tidings", "transition", "turns", "unit",
})  # fmt: skip
# Whole loops and whole commands: they may use everything below.
SHELLS = frozenset({
    "abandoned", "activating", "advice", "agenda", "apply", "archiving", "aside", "belongings", "bulletin", "checkup",
    "chosen", "comparing", "concerns", "contention", "delegation", "departed", "deputy", "diary", "editing", "engine",
    "followup", "forking", "gauges", "guard", "health", "hearing", "herald", "holdings", "importing", "index",
    "inforce", "installing", "inventory", "joining", "knowledge", "leakscan", "leaving", "ledger", "library",
    "looking", "lookout", "loop", "losses", "migrating", "outcome", "pace", "pausing", "projecting", "provenance",
    "publish", "recording", "recover", "recovering", "registry", "removals", "removing", "restoring", "retention",
    "returning", "reviving", "scene", "setback", "settling", "silos", "site", "snapshots", "targets", "tidying",
    "toggling", "undoing", "vault", "verifying", "vigil", "withdrawal",
})  # fmt: skip
# The rest are edges: each knows one thing of the outside world.

# Of the standard library, what neither opens a file nor reads a clock nor starts anything.
PURE = frozenset({
    "__future__", "base64", "bisect", "codecs", "collections", "collections.abc", "dataclasses", "datetime", "difflib",
    "enum", "errno", "functools", "hashlib", "itertools", "json", "math", "plistlib", "re", "struct", "types", "typing",
    "xml.parsers.expat",
})  # fmt: skip
# Builtins and methods that would make a core module impure without any import.
IMPURE_CALLS = frozenset({"open", "print", "input", "exec", "eval", "__import__"})
CLOCK_CALLS = frozenset({"now", "utcnow", "today"})

OWNERS = {
    "watchdog": {"watch", "instance"},
    "portalocker": {"locks"},
    "platformdirs": {"dirs"},
    "sqlite3": {"state", "selfcheck", "told", "whereabouts", "lineage"},  # the others: parts of one class
    "structlog": {"logs"},
    "pydantic": {"config"},
    "tomllib": {"config"},
    # git, asked by a person; the demo's own processes; the command of `lock`; an editor; service managers and others
    # that are asked and waited for; what tells a person; a second process of the agent
    "subprocess": {"registry", "home", "running", "editor", "errand", "messengers", "branch"},
}
LONGEST, LONG = 350, 300
VAGUE = ("utils", "util", "helpers", "helper", "common", "manager", "misc")


class Import(NamedTuple):
    """One import. `target`: 'agent.NAME', 'cli.NAME', or a module of somebody else. `typing`: for checkers only."""

    module: str
    target: str
    line: int
    typing: bool


def modules(base: Path) -> dict[str, Path]:
    """Every module below a package by its dotted name within it."""
    found = {}
    for path in sorted(base.rglob("*.py")):
        parts = path.relative_to(base).with_suffix("").parts
        found[".".join(parts)] = path
    return found


AGENT_MODULES = modules(AGENT)
CLI_MODULES = modules(CLI)
EVERYTHING = {f"agent.{n}": p for n, p in AGENT_MODULES.items()} | {f"cli.{n}": p for n, p in CLI_MODULES.items()}


def imports_of(name: str) -> list[Import]:
    """All imports of one module, wherever in it they stand."""
    tree = ast.parse(EVERYTHING[name].read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found = []
    for node in ast.walk(tree):
        typing = id(node) in guarded
        if isinstance(node, ast.Import):
            found += [Import(name, alias.name, node.lineno, typing) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: relative imports hide where they lead"
            found += [Import(name, target, node.lineno, typing) for target in targets_of(node)]
    return found


def targets_of(node: ast.ImportFrom) -> list[str]:
    package, _, rest = (node.module or "").partition(".")
    side = {"convsync_agent": "agent", "convsync_cli": "cli"}.get(package)
    if side is None:
        return [node.module or ""]
    if rest in {"", "commands"}:  # from convsync_agent import fs, kernel
        known = {"agent": AGENT_MODULES, "cli": CLI_MODULES}[side]
        prefix = f"{rest}." if rest else ""
        return [f"{side}.{prefix}{a.name}" if prefix + a.name in known else f"{side}.__init__" for a in node.names]
    return [f"{side}.{rest}"]


ALL_IMPORTS = [one for name in EVERYTHING for one in imports_of(name)] if AGENT.is_dir() else []


def said(found: list[Import]) -> str:
    return "\n".join(f"{i.module}:{i.line} imports {i.target}" for i in found)


def layer_of(name: str) -> int:
    """0 core, 1 edges, 2 shells, 3 command line."""
    side, _, module = name.partition(".")
    if side == "cli":
        return 3
    return 0 if module in CORE | {"__init__"} else 2 if module in SHELLS else 1


def ours(target: str) -> bool:
    return target in EVERYTHING


def test_every_listed_module_exists():
    """A list of layers that names what is gone protects nothing."""
    gone = {n for n in CORE | SHELLS if n not in AGENT_MODULES}

    assert not gone


def test_imports_point_downward():
    """Command line -> shells -> edges -> core. What only a type checker reads may point up."""
    upward = [
        i
        for i in ALL_IMPORTS
        if not i.typing and ours(i.target) and layer_of(i.target) > layer_of(i.module) and i.module != "agent.__init__"
    ]

    assert not upward, said(upward)


def test_the_agent_never_imports_the_command_line():
    """Not even for a type checker: the agent is usable without it."""
    wrong = [i for i in ALL_IMPORTS if i.module.startswith("agent.") and i.target.startswith("cli.")]

    assert not wrong, said(wrong)


def test_no_two_modules_need_each_other():
    """The imports that run have no cycle, inside a layer either."""
    edges: dict[str, set[str]] = {}
    for one in ALL_IMPORTS:
        if not one.typing and ours(one.target) and one.target != one.module and not one.module.startswith("cli."):
            edges.setdefault(one.module, set()).add(one.target)
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*path, name))
            done.add(name)

    for name in sorted(edges):
        visit(name, ())


@pytest.mark.parametrize("module", sorted(CORE))
def test_core_modules_are_pure(module):
    """The core imports the core and pure parts of the standard library; it opens nothing and reads no clock."""
    wrong = [
        i
        for i in ALL_IMPORTS
        if i.module == f"agent.{module}"
        and not (i.target.removeprefix("agent.") in CORE if ours(i.target) else i.target in PURE)
    ]

    assert not wrong, said(wrong)

    for node in ast.walk(ast.parse(AGENT_MODULES[module].read_text())):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else ""
            method = called.attr if isinstance(called, ast.Attribute) else ""
            assert name not in IMPURE_CALLS, f"{module}:{node.lineno} calls {name}"
            assert method not in CLOCK_CALLS, f"{module}:{node.lineno} reads the clock"


@pytest.mark.parametrize(("package", "owners"), OWNERS.items())
def test_each_outside_thing_has_one_owner(package, owners):
    """Replacing a library means changing one file."""
    users = {i.module.split(".", 1)[1] for i in ALL_IMPORTS if i.target.split(".")[0] == package}

    assert users, f"nobody uses {package}"
    assert users <= owners


def test_click_is_of_the_command_line_only():
    """The agent prints nothing and parses no arguments."""
    wrong = [i for i in ALL_IMPORTS if i.target.split(".")[0] == "click" and i.module.startswith("agent.")]

    assert not wrong, said(wrong)


def test_no_other_package_is_used():
    """What is imported is in `dependencies`, and nothing else is."""
    import tomllib

    declared = {
        d.split(">")[0].strip() for d in tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    used = {i.target.split(".")[0] for i in ALL_IMPORTS if not ours(i.target)} - set(sys.stdlib_module_names)

    assert used == declared


def test_files_are_short(record_property):
    """About 300 lines a file, never more than 350: one noun or one verb. What is long is listed in the report."""
    lengths = {
        path.relative_to(TOP).as_posix(): path.read_text().count("\n")
        for base in (AGENT, CLI)
        for path in base.rglob("*.py")
    }
    long = {n: k for n, k in sorted(lengths.items(), key=lambda item: -item[1]) if k > LONG}
    record_property("longer than 300", long)

    assert {n: k for n, k in long.items() if k > LONGEST} == {}, f"longer than {LONG} lines: {long}"


def test_no_vague_names():
    """A file is named after what it is or does."""
    vague = [n for n in EVERYTHING if n.rsplit(".", 1)[-1].strip("_") in VAGUE or n.endswith(VAGUE)]

    assert not vague


def test_every_module_says_what_it_is():
    """A module begins with a docstring."""
    silent = [n for n, p in EVERYTHING.items() if not ast.get_docstring(ast.parse(p.read_text()))]

    assert not silent
