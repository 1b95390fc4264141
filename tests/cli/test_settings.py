"""`config`: what is in force, and where it comes from."""

from __future__ import annotations

import json

import pytest

from convsync_agent.settings import KEYS


def write_config(machine, text):
    path = machine.base / "config" / "convsync" / "config.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_show(machine):
    """Every key is a line `key = value`, sorted."""
    lines = machine.ok("config", "show").out.splitlines()

    assert [line.split(" = ")[0] for line in lines] == sorted(KEYS)
    assert "import.policy = auto" in lines
    assert "notify.desktop = true" in lines


def test_origins(machine, monkeypatch):
    """`--origin` says default, file, env or flag; a later source wins."""
    write_config(machine, 'policy = "mtime"\n[trash]\nkeep_days = 7\n[history]\nkeep_days = 5\n')
    monkeypatch.setenv("CONVSYNC_IMPORT__POLICY", "manual")
    monkeypatch.setenv("CONVSYNC_HISTORY__KEEP_DAYS", "6")

    lines = machine.ok("config", "show", "--origin", "--set", "trash.keep_days=8").out.splitlines()

    assert "policy = mtime (file)" in lines
    assert "import.policy = manual (env)" in lines
    assert "history.keep_days = 6 (env)" in lines
    assert "trash.keep_days = 8 (flag)" in lines
    assert "log.level = info (default)" in lines


@pytest.mark.parametrize(
    "argv",
    [
        ["--json", "--set", "policy=mtime", "config", "show"],
        ["config", "--json", "--set", "policy=mtime", "show"],
        ["config", "show", "--json", "--set", "policy=mtime"],
        ["--json", "config", "--set", "policy=mtime", "show", "--origin"],
    ],
    ids=" ".join,
)
def test_global_options_anywhere(machine, argv):
    """Global options are taken before the group, after it, and after its command."""
    document = machine.ok(*argv).json

    assert document["schema"] == 1
    assert document["settings"]["policy"] == "mtime"
    assert document["origins"]["policy"] == "flag"
    assert set(document["settings"]) == set(KEYS)


def test_path(machine, monkeypatch):
    """The file that is read is named, whether or not it is there or right."""
    path = write_config(machine, "not TOML")
    assert machine.ok("config", "path").out == f"{path}\n"

    monkeypatch.setenv("CONVSYNC_CONFIG", "/elsewhere/c.toml")

    assert machine.ok("config", "path", "--json").json == {"schema": 1, "path": "/elsewhere/c.toml", "exists": False}
    assert machine.ok("--config", "/third", "config", "path").out == "/third\n"


def test_schema(machine):
    """The schema is JSON schema, as a document of its own or inside ours."""
    found = json.loads(machine.ok("config", "schema").out)

    assert found["$schema"].startswith("https://json-schema.org/")
    assert "import" in found["properties"]
    assert machine.ok("config", "schema", "--json").json == {"schema": 1, "config": found}


def test_mistakes(machine):
    """A mistake in the file is exit 2 with the file, the key, the value and what is allowed."""
    path = write_config(machine, 'polcy = "mtime"\n[log]\nlevel = "loud"\n')

    ran = machine.run("config", "show")

    assert ran.code == 2
    for word in (str(path), "polcy", "policy", "log.level", "loud", "warning"):
        assert word in ran.err


@pytest.mark.parametrize("argv", [["config", "set"], ["completion", "tcsh"], ["completion"]], ids=" ".join)
def test_bad_usage(machine, argv):
    """A group without a command, an unknown command and an unknown shell are bad usage."""
    assert machine.run(*argv).code == 2
