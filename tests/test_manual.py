"""What is shipped beside the code: man pages and completion scripts, as the commands are now.

CONVSYNC_UPDATE_DOCS=1 writes them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import manual
from convsync_cli import main
from convsync_cli.shells import SCRIPTS

TOP = Path(__file__).parents[1]
UPDATE = "CONVSYNC_UPDATE_DOCS" in os.environ
COMPLETIONS = {"bash": "convsync", "zsh": "_convsync", "fish": "convsync.fish"}
PAGES = manual.pages()
pytestmark = pytest.mark.skipif(not (TOP / "man").is_dir(), reason="the man pages are not beside the tests")


def shipped(path: Path, wanted: str) -> None:
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(wanted, encoding="utf-8")
    there = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert there == wanted, f"{path.relative_to(TOP)} is not as in the code; CONVSYNC_UPDATE_DOCS=1 writes it"


@pytest.mark.parametrize("name", PAGES)
def test_every_command_has_its_man_page(name, monkeypatch):
    """One page a command, with what `--help` says."""
    monkeypatch.setenv("COLUMNS", "80")
    shipped(TOP / "man" / name, PAGES[name])


def test_no_man_page_is_left_over():
    """What is no command any more has no page."""
    there = {p.name for p in (TOP / "man").iterdir()}

    assert there <= set(PAGES) if not UPDATE else True
    assert {f"convsync-{name}.1" for name in main.COMMANDS} < set(PAGES)


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_the_completion_scripts_are_shipped(shell):
    """The files of the wheel are what `convsync completion` prints."""
    shipped(TOP / "completions" / COMPLETIONS[shell], SCRIPTS[shell])


CHECKERS = {
    "groff": ["groff", "-man", "-ww", "-Tutf8", "-Wbreak"],
    "mandoc": ["mandoc", "-Tlint", "-Wwarning"],
}


@pytest.mark.parametrize("checker", CHECKERS)
def test_man_pages_are_sound(checker, tmp_path):
    """Typeset without a warning, and nothing of the markup is left to be seen."""
    if shutil.which(checker) is None:
        pytest.skip(f"{checker} is not installed here")
    for name, text in PAGES.items():
        page = tmp_path / name
        page.write_text(text)
        done = subprocess.run([*CHECKERS[checker], str(page)], capture_output=True, text=True, check=False)
        said = done.stdout if checker == "mandoc" else done.stderr
        assert [n for n in said.splitlines() if "referenced manual not found" not in n] == [], name
        if checker == "groff":
            seen = re.sub(r"\x1b\[[0-9;]*m|.\x08", "", done.stdout)
            assert "\\" not in seen.replace("\\-", "") or "\\e" in text, name
            assert "`" not in re.sub(r"`[A-Z]", "", seen), name


def test_the_exit_codes_are_those_of_the_document():
    """The table of docs/cli.md, word for word."""
    rows = re.findall(r"^\| ([0-7]) \| (.+) \|$", (TOP / "docs" / "cli.md").read_text(), re.MULTILINE)

    assert {int(code): meaning for code, meaning in rows} == manual.EXIT


def test_the_wheel_takes_them_along():
    """Where man and the shells look, below the prefix of the environment."""
    text = (TOP / "pyproject.toml").read_text()
    table = text.partition("[tool.hatch.build.targets.wheel.shared-data]")[2].partition("\n[")[0]

    found = dict(re.findall(r'^"?([\w/.]+)"? = "([\w/.-]+)"$', table, re.MULTILINE))

    assert found == {
        "man": "share/man/man1",
        "completions/convsync": "share/bash-completion/completions/convsync",
        "completions/_convsync": "share/zsh/site-functions/_convsync",
        "completions/convsync.fish": "share/fish/vendor_completions.d/convsync.fish",
    }
