"""Completion: what a shell is told, and what a real bash, zsh and fish make of it."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from convsync_agent.model import Unit
from convsync_agent.settings import KEYS
from convsync_cli.completing import SHELLS, WORDS
from convsync_cli.snippets import SNIPPETS
from terminal import everything

ID, OTHER, STORED = 17_000_000_001, 17_000_001_002, 17_000_000_003


@pytest.fixture
def some(machine):
    """Two worktrees, one with a space in its name; two live conversations and an archived one."""
    a = machine.worktree("a b", register=False)
    machine.write(a, ID, "one", slug="private-title", title="Private title")
    machine.write(a, OTHER, "two")
    machine.write(a, STORED, "three", archived=True)
    machine.ok("register", a)
    machine.worktree("c")
    return machine


def ask(machine, monkeypatch, shell, *words):
    """The lines that one of our scripts gets, in this process."""
    monkeypatch.setenv("_CONVSYNC_COMPLETE", shell)
    ran = machine.ok(*words)
    monkeypatch.delenv("_CONVSYNC_COMPLETE")
    assert ran.err == ""
    return ran.out.splitlines()


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_script(machine, shell):
    """The script asks `convsync` itself, and says so for each of the three shells."""
    script = machine.ok("completion", shell).out

    assert f"_CONVSYNC_COMPLETE={shell}" in script
    assert machine.ok("completion", shell, "--json").json["script"].strip() == script.strip()


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_script_is_sound(machine, tmp_path, shell):
    """The shell itself takes the script, where it is installed."""
    require(shell)
    script = tmp_path / "script"
    script.write_text(machine.ok("completion", shell).out)

    assert subprocess.run([shell, "-n", script], check=False, capture_output=True).stderr == b""


def require(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here")


PLACES = "{base}/a b", "{base}/c"
COMPLETED = {
    "ver": {"verify"},
    "--json hist": {"history"},
    "ls --pres": {"--presence"},
    "ls --sort a": {"activity"},
    "config s": {"show", "schema"},
    "completion z": {"zsh"},
    "nosuch reg": {"register"},
    "show jp-c17000000": {f"jp-c{ID}", f"jp-c{STORED}"},
    "show 170000010": {str(OTHER)},
    "show p": {"prev", "pinned"},
    "archive +": {"+live", "+session", "+pinned", "+archived", "+external"},
    "show +": set(),
    "ls -q 170000010": {str(OTHER)},
    "verify {base}/": {":dir", *PLACES},
    "ls --worktree {base}/c": {":dir", "{base}/c"},
    "accept last --from s": {":dir", "silo"},
    "restore last --into {base}/a": {":dir", "{base}/a b"},
    "--set policy=": {"policy=guarded", "policy=mtime"},
    "sync --set notify.desktop=t": {"notify.desktop=true"},
    "--set trash.keep_days=": set(),
    "--set nothing=": set(),
    "--config ": {":file"},
    "hooks w": {"worktrunk"},
}


@pytest.mark.parametrize("words", COMPLETED)
def test_completions(some, monkeypatch, words):
    """Commands, options and choices; ids, worktrees, settings. What is unknown completes to nothing."""
    place = str(some.base)
    line = [w.format(base=place) for w in words.split(" ")]

    found = {row.partition("\t")[0] for row in ask(some, monkeypatch, "zsh", *line)}

    assert found == {w.format(base=place) for w in COMPLETED[words]}


def test_the_rest_that_completes(some, monkeypatch):
    """All words and ids for nothing at all, the newest id first; every key; PATH and TARGET where both are taken."""
    ids = [f"jp-c{n}" for n in (OTHER, STORED, ID)]
    assert ask(some, monkeypatch, "fish", "show", "") == [*WORDS, *ids]
    assert ask(some, monkeypatch, "fish", "--set", "") == [f"{key}=" for key in KEYS]
    assert set(ask(some, monkeypatch, "fish", "sync", "")) > {*ids, str(some.base / "c"), ":dir"}
    assert ask(some, monkeypatch, "fish", "hooks", "") == [s.name for s in SNIPPETS]


def test_kept_versions_complete(some, monkeypatch):
    """Once the conversation is named, what is kept of it."""
    a = some.base / "a b"
    some.write(a, ID, "one", "two", mtime_ns=time.time_ns())
    some.ok("sync")
    some.write(a, ID, "something else", mtime_ns=time.time_ns())
    some.ok("sync")
    [kept] = [v["version"] for v in some.ok("history", ID, "--json").json["versions"] if v["unit"] == Unit.STREAM]

    assert kept in ask(some, monkeypatch, "bash", "diff", f"jp-c{ID}", "")
    assert kept in ask(some, monkeypatch, "bash", "restore", str(ID), "--version", kept[:6])
    assert ask(some, monkeypatch, "bash", "diff", f"jp-c{OTHER}", "") == []


def test_the_trash_completes_what_is_in_it(some, monkeypatch):
    """`trash restore` offers what was removed, and nothing that is there."""
    some.ok("rm", ID, "--yes")

    assert ask(some, monkeypatch, "bash", "trash", "restore", "jp") == [f"jp-c{ID}"]
    assert ask(some, monkeypatch, "bash", "show", "jp") == [f"jp-c{OTHER}", f"jp-c{STORED}"]


@pytest.mark.parametrize("shell", SHELLS)
def test_no_chat_text_is_completed(some, monkeypatch, shell):
    """Ids only: neither titles nor slugs, whatever is asked (R9)."""
    for words in (["show", ""], ["rm", "jp"], ["sync", ""], ["ls", "-q", ""], ["diff", f"jp-c{ID}", ""]):
        assert "rivate" not in "".join(ask(some, monkeypatch, shell, *words))


def test_nothing_registered_completes_nothing(machine, monkeypatch):
    """No state, or one that is damaged: words and directories, no error, and nothing is created."""
    assert ask(machine, monkeypatch, "bash", "show", "jp") == []
    assert ask(machine, monkeypatch, "bash", "verify", "/") == [":dir"]
    state = machine.base / "state" / "convsync"
    assert not state.exists()
    state.mkdir(mode=0o700)
    (state / "state.db").write_bytes(b"no database" * 99)
    assert ask(machine, monkeypatch, "bash", "show", "jp") == []


def test_completing_is_light(some):
    """Neither the engine nor what checks settings is loaded for it."""
    code = "import sys; from convsync_cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "_CONVSYNC_COMPLETE": "bash"}
    done = subprocess.run(
        [sys.executable, "-c", code, "sync", ""], env=some.env | env, capture_output=True, text=True, check=True
    )

    assert f"jp-c{ID}" in done.stdout
    loaded = set(done.stderr.split())
    assert loaded & {"pydantic", "structlog", "watchdog", "convsync_agent.engine", "convsync_agent.config"} == set()


# -- in real shells -------------------------------------------------------------------

PROMPT = "ready? "
START = {
    "bash": (["bash", "--noprofile", "--norc", "-i"], "source {script}"),
    "zsh": (["zsh", "-f", "-i"], "unsetopt zle_bracketed_paste; autoload -U compinit; compinit -u -D; source {script}"),
}
IN_A_SHELL = {
    "convsync regis\t": ["convsync", "register"],
    f"convsync show jp-c{OTHER // 1000}\t": ["convsync", "show", f"jp-c{OTHER}"],
    "convsync verify {base}/a\t": ["convsync", "verify", "{base}/a b"],
    "convsync --set poli\tgua\tstat\t": ["convsync", "--set", "policy=guarded", "status"],
}
IN_BASH = {"convsync verify '{base}/a\t": ["convsync", "verify", "{base}/a b"]}  # it closes what was opened


def installed(machine, place, shell):
    """Our command in a directory for PATH, and the script beside it."""
    command = place / "convsync"
    path = shlex.quote(os.pathsep.join(filter(None, sys.path)))
    command.write_text(f'#!/bin/sh\nPYTHONPATH={path} exec {shlex.quote(sys.executable)} -m convsync_cli "$@"\n')
    command.chmod(0o755)
    script = place / "script"
    script.write_text(machine.ok("completion", shell).out)
    return script, machine.env | {"PATH": f"{place}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("shell", "line"), [*((s, n) for s in START for n in IN_A_SHELL), *(("bash", n) for n in IN_BASH)]
)
def test_in_a_real_shell(some, tmp_path, shell, line):
    """A tab completes to words that the shell then passes on whole, spaces and all."""
    require(shell)
    script, env = installed(some, tmp_path, shell)
    argv, begin = START[shell]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        argv,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env | {"TERM": "dumb", "PS1": PROMPT, "LANG": "C"},
        cwd=some.base,
    )
    os.close(theirs)
    out = tmp_path / "out"
    # Once the line is complete the words in it become arguments: Ctrl-A goes to its beginning.
    asked = line.format(base=some.base).encode() + f"\x01printf '%s\\n' >{shlex.quote(str(out))} ".encode()
    seen = everything(ours, [begin.format(script=shlex.quote(str(script))).encode(), asked, b"exit"], PROMPT.encode())
    process.wait(30)

    expected = [w.format(base=some.base) for w in (IN_A_SHELL | IN_BASH)[line]]
    assert [w.removesuffix("/") for w in out.read_text().splitlines()] == expected, seen


def test_in_a_real_fish(some, tmp_path):
    """Fish completes with what it asks us, and with its own directories."""
    require("fish")
    script, env = installed(some, tmp_path, "fish")

    def complete(line):
        ask = f"source {shlex.quote(str(script))}; complete -C {shlex.quote(line)}"
        return subprocess.run(
            ["fish", "--no-config", "-c", ask], env=env, capture_output=True, text=True, check=True, cwd=some.base
        ).stdout.splitlines()

    assert complete("convsync regis") == ["register\tWatch a worktree; its conversations become durable."]
    assert complete("convsync show jp-c170000010") == [f"jp-c{OTHER}"]
    assert {n.partition("\t")[0] for n in complete(f"convsync verify {some.base}/a")} >= {f"{some.base}/a b"}
