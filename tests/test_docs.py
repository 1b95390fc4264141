"""The documents: every command in them runs, every name and link in them exists, nothing is left out.

In a `sh` block every line is a command. In a `console` block a command follows `$ ` and what it prints on
a terminal follows the command; `...` stands for anything. The commands of one document run in their order
in one throw-away home, in `~/code/project`. They exit with 0, or as a line `# exit N` of their block says.

CONVSYNC_UPDATE_DOCS=1 writes the parts that are made from the code: help texts and the table of settings.
"""

from __future__ import annotations

import ast
import doctest
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from convsync_agent.config import load
from convsync_agent.settings import KEYS
from convsync_cli import main
from desk import Desk
from pages import DOCS, PAGES, TOP, blocks, prose, read, steps

pytestmark = pytest.mark.skipif(not (DOCS / "index.md").is_file(), reason="the documents are not beside the tests")
UPDATE = "CONVSYNC_UPDATE_DOCS" in os.environ

PROGRAMS = ("convsync", "cd")
NOT_RUN = {
    "pipx": "installs for a user",
    "uv": "installs for a user",
    "python3": "installs for a user",
    "~/.venvs/convsync/bin/python": "installs for a user",
    "~/.venvs/convsync/bin/convsync": "is what the line before installed",
    "sudo": "changes the machine",
    "systemctl": "asks a service manager that a test does not have",
    "loginctl": "asks a service manager that a test does not have",
    "make": "runs this very test",
    ".ci/run": "runs this very test",
    ".venv/bin/python": "runs this very test",
    "git": "belongs to the repository of the reader",
    "vim": "waits for a person",
    "eval": "is for an interactive shell",
    "export": "is for an interactive shell",
    "gunzip": "names a file that is only an example",
    "tar": "names a file that is only an example",
    "sqlite3": "is not installed everywhere",
}
NOT_RUN_COMMANDS = {
    "convsync service": "asks a service manager, and is tests/system/test_service.py",
    "convsync status --watch": "runs until Ctrl-C",
    "convsync demo": "takes long, and is tests/system/test_demo.py",
}

# -- a home to run them in --------------------------------------------------------


@pytest.fixture
def desk(tmp_path) -> Iterator[Desk]:
    for program in ("git", "bash"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not here")
    made = Desk(Path(os.path.realpath(tmp_path)))
    yield made
    made.leave()


def why_not_run(command: str) -> str | None:
    words = command.split()
    listed = next((why for c, why in NOT_RUN_COMMANDS.items() if command.startswith(c)), None)
    return listed or NOT_RUN.get(words[0])


@pytest.mark.parametrize("page", [p for p in PAGES if steps(p)] if DOCS.is_dir() else [])
def test_every_command_does_what_the_document_says(page, desk):
    """A command that is shown works; an output that is shown is the output."""
    if page != "README.md":
        desk.live_in()
    if page == "docs/troubleshooting.md":
        desk.break_one()
    checker = doctest.OutputChecker()
    for step in steps(page):
        if why_not_run(step.command) is not None:
            continue
        assert step.command.split()[0] in PROGRAMS, f"{step.where}: neither run nor listed as not run: {step.command}"
        if step.command == "convsync agent":
            desk.start_agent()
            continue
        code, seen = desk.run(step.command)
        assert code == step.exit_code, f"{step.where}: {step.command}\n{seen}"
        if step.expected is not None:
            want, got = (
                re.sub(r"[ \t]+$", "", t.strip("\n") + "\n", flags=re.MULTILINE) for t in (step.expected, seen)
            )
            fine = checker.check_output(want, got, doctest.ELLIPSIS)
            assert fine, f"{step.where}: {step.command}\n--- shown\n{want}--- real\n{got}"


# -- what is made from the code ------------------------------------------------------


def commands() -> dict[str, list[str]]:
    """Every command and sub-command by the words that call it."""
    found: dict[str, list[str]] = {"convsync": []}
    top = click.Context(main.cli, info_name="convsync")
    for name in main.COMMANDS:
        command = main.cli.get_command(top, name)
        found[name] = [name]
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": [name, sub] for sub in sorted(command.commands)}
    return found


def help_of(words: list[str], capsys) -> str:
    capsys.readouterr()
    assert main.run([*words, "--help"]) == 0
    return capsys.readouterr().out


def settings_table() -> str:
    rows = ["| key | default | allowed | what it is for |", "| --- | --- | --- | --- |"]
    for key, what in KEYS.items():
        default = (
            "not set"
            if what.default is None
            else f"`{str(what.default).lower() if what.kind == 'bool' else what.default}`"
        )
        rows.append(f"| `{key}` | {default} | {what.allowed} | {what.description} |")
    return "\n".join(rows) + "\n"


def generated(page: str, name: str, wanted: str) -> None:
    """The part of a page between two marks is this text; or becomes it, when the documents are being updated."""
    pattern = re.compile(rf"(<!-- made: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    with open(TOP / page, "rb") as lock:
        if UPDATE:  # one part after the other, and in place: all who write hold the lock of this one file
            fcntl.flock(lock, fcntl.LOCK_EX)
        text = read(page)
        assert pattern.search(text), f"{page} has no part for {name}"
        new = pattern.sub(lambda m: m[1] + wanted + m[2], text)
        if UPDATE:
            (TOP / page).write_text(new, encoding="utf-8")
            return
    assert text == new, f"{page}: {name} is not as in the code; CONVSYNC_UPDATE_DOCS=1 writes it"


@pytest.mark.parametrize("name", list(commands()))
def test_every_command_is_documented_with_its_help(name, capsys, monkeypatch):
    """docs/cli.md shows what `--help` prints, 80 columns wide, letter for letter."""
    monkeypatch.setenv("COLUMNS", "80")

    generated("docs/cli.md", f"{name} --help", f"```text\n{help_of(commands()[name], capsys)}```\n")


def test_every_setting_is_documented():
    """docs/configuration.md has every key with its default, from the table that also validates."""
    generated("docs/configuration.md", "settings", settings_table())
    text = read("docs/configuration.md")

    assert [k for k in KEYS if f"`{k}`" not in text] == []


def test_example_settings_are_valid(tmp_path):
    """What the documents show as a configuration file is one."""
    shown = [b for p in PAGES for b in blocks(p) if b.language == "toml"]
    assert shown
    for number, block in enumerate(shown):
        path = tmp_path / f"{number}.toml"
        path.write_text(block.text)

        assert "file" in load(str(path), {}).origins.values()


AVOIDED = {word: rf"\b{word}s?\b" for word in ("chat", "transcript", "thread", "tab")}
AVOIDED["project"] = (
    r"\b(?:an?|the|this|that|your|each|every|one|another|per) projects?\b|\bproject(?:'s| id| root| directory)\b"
)


@pytest.mark.parametrize("word", AVOIDED)
def test_terminology(word, capsys):
    """The glossary says which words are avoided; the command line avoids them.

    To project is a verb of the glossary and the name of a command; what is avoided is to call a workspace one.
    """
    wrong = re.compile(AVOIDED[word], re.IGNORECASE)
    texts = {name: help_of(words, capsys) for name, words in commands().items()}

    assert {
        n: lines for n, t in texts.items() if (lines := [line for line in t.splitlines() if wrong.search(line)])
    } == {}


# -- links and names -----------------------------------------------------------------


def anchors(page: str) -> set[str]:
    """The anchors a forge makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Every link inside of the repository resolves, its anchor too."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("https://", "http://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (TOP / page).parent.joinpath(path).resolve() if path else TOP / page
        known = there.exists() and there.is_relative_to(TOP)
        if not known or (anchor and anchor not in anchors(there.relative_to(TOP).as_posix())):
            wrong.append(target)

    assert not wrong


def names_in(path: Path) -> set[str]:
    """Whatever a module defines, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def sources() -> dict[str, Path]:
    """Every module of ours by the name that the documents use."""
    agent = {p.stem: p for p in (TOP / "agent/convsync_agent").glob("*.py")}
    cli = TOP / "cli/convsync_cli"
    found = {f"cli/{p.relative_to(cli).with_suffix('').as_posix()}": p for p in cli.rglob("*.py")}
    return {n: p for n, p in (agent | found).items() if not n.endswith("__init__")}


@pytest.mark.parametrize("page", PAGES)
def test_names_of_code_exist(page):
    """`module.name` and `tests/file.py::test` in a document are really there."""
    known, wrong = sources(), []
    endings = {"py", "db", "json", "toml", "md", "lock", "new", "gz", "service", "plist"}
    for module, name in re.findall(r"`((?:cli/)?[a-z_/]+)\.([A-Za-z_]+)`", prose(page)):
        if module in known and name not in endings and f"{module}.{name}" not in KEYS:
            wrong += [f"{module}.{name}"] if name not in names_in(known[module]) else []
    for file, test in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", prose(page)):
        path = TOP / file
        wrong += [file] if not path.is_file() else [] if not test or test in names_in(path) else [f"{file}::{test}"]

    assert not wrong


def test_every_named_race_is_listed():
    """Whatever the code marks as a race, docs/design.md names with its window and its worst case."""
    chapter = read("docs/design.md").partition("### Named races")[2].partition("\n## ")[0]
    racing = {name for name, path in sources().items() if "RACE:" in path.read_text()}

    assert racing == set(re.findall(r"^\| `([a-z_]+)\.", chapter, re.MULTILINE))


def test_the_map_has_every_module():
    """A new engineer finds each module in docs/index.md, and none that is gone."""
    chapter = read("docs/index.md").partition("## The map")[2].partition("\n## ")[0]
    listed = re.findall(r"^\| `([\w/]+)`", chapter, re.MULTILINE)

    assert sorted(listed) == sorted(sources())


def test_every_page_is_reachable():
    """Each document is linked from docs/index.md or, for decisions, from their own list."""
    linked = {
        (TOP / page).parent.joinpath(target.partition("#")[0]).resolve()
        for page in ("docs/index.md", "docs/decisions/README.md")
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(page))
    }
    lost = [p for p in PAGES if p.startswith("docs/") and p != "docs/index.md" and TOP / p not in linked]

    assert not lost


# -- promises about single documents ---------------------------------------------------


def entries() -> dict[str, str]:
    parts = re.split(r"^### (.+)$", read("docs/architecture/ubiquitous-language.md"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("term", list(entries()) if DOCS.is_dir() else [])
def test_a_glossary_entry_is_whole(term):
    """Each term has a definition, says where it lives in the code, and what it is not."""
    text = entries()[term]

    assert text.strip().split("\n")[0]
    assert "**Implementation:**" in text
    assert "*Not the same as*" in text
    assert "*Avoid*" in text


def test_the_storage_model_is_stated():
    """One row of the table says it all: a durable copy and a projection."""
    assert re.search(r"durable copy.*projection", read("docs/storage-model.md"))


def test_the_state_store_record_is_whole():
    """The decision on the state names its schema, places, retention and privacy, and recommends one store."""
    text = read("docs/adr/0002-state-store.md")
    for heading in ("State schema", "File locations", "Retention policy", "Privacy boundary"):
        assert re.search(rf"^## {heading}$", text, re.MULTILINE), heading

    assert len(re.findall(r"^\*\*Recommendation", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^.*redb.*$", text, re.MULTILINE)) >= 3
    assert all(store in text for store in ("JSONL", "redb", "SQLite", "Redis"))


def test_every_row_of_survival_names_the_test_that_shows_it():
    """S1 to S10, and whatever else is claimed there; `test_names_of_code_exist` looks whether the test is there."""
    rows = [line for line in read("docs/survival.md").splitlines() if line.startswith("| ")]
    claims = [r for r in rows if not r.startswith("| ---") and not r.endswith("| shown by |")]

    assert [r for r in claims if not re.search(r"`tests/[\w/]+\.py::test_\w+` \|$", r)] == []
    assert {f"S{n}" for n in range(1, 11)} <= {r[2:].partition(":")[0] for r in claims}


def test_every_decision_has_its_number_and_status():
    """Decisions are numbered without gaps over both directories, listed, and say whether they hold."""
    found = sorted([*DOCS.glob("adr/[0-9]*.md"), *DOCS.glob("decisions/[0-9]*.md")], key=lambda p: p.name)
    listed = read("docs/decisions/README.md")

    assert [int(p.name[:4]) for p in found] == list(range(1, len(found) + 1))
    for path in found:
        assert re.search(r"^- \*\*Status:\*\* \w+", path.read_text(), re.MULTILINE), path.name
        assert path.name in listed
