"""Settings: four sources in one order, and nothing paid for what is not used."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from convsync_agent import config
from convsync_agent.errors import StorageProblem, UsageProblem
from convsync_agent.settings import KEYS, Settings


def test_defaults(load):
    """Without any source every setting has its default and says so."""
    loaded = load()

    assert Settings() == loaded.settings
    assert dict.fromkeys(KEYS, "default") == loaded.origins
    assert loaded.warnings == ()


DOCUMENTED = {
    "policy": "guarded",
    "import.policy": "auto",
    "recovery.reproject": "auto",
    "trash.keep_days": 30,
    "history.keep_days": 90,
    "history.keep_versions": 50,
    "history.max_bytes": 2 * 1024**3,
    "target.default": "ask",
    "notify.desktop": True,
    "notify.command": None,
    "metrics.textfile": None,
    "log.level": "info",
}


def test_the_documented_keys(load):
    """Keys and defaults are those of the command-line contract; rows are sorted and plain."""
    rows = config.as_toml_rows(load())

    assert [(key, DOCUMENTED[key], "default") for key in sorted(DOCUMENTED)] == rows
    assert json.loads(json.dumps(rows)) == [list(row) for row in rows]


@pytest.mark.parametrize(
    ("text", "env", "sets", "expected"),
    [
        pytest.param(None, {}, (), ("auto", "default"), id="default"),
        pytest.param("[import]\npolicy='manual'", {}, (), ("manual", "file"), id="file over default"),
        pytest.param("import.policy='manual'", {}, (), ("manual", "file"), id="a dotted key is a table"),
        pytest.param(
            "[import]\npolicy='manual'",
            {"CONVSYNC_IMPORT__POLICY": "on-write"},
            (),
            ("on-write", "env"),
            id="environment over file",
        ),
        pytest.param(None, {"convsync_import__Policy": "manual"}, (), ("manual", "env"), id="in any case"),
        pytest.param(
            "[import]\npolicy='manual'",
            {"CONVSYNC_IMPORT__POLICY": "manual"},
            ("import.policy=on-write",),
            ("on-write", "flag"),
            id="flag over all",
        ),
        pytest.param(
            None, {}, ("import.policy=manual", "import.policy=auto"), ("auto", "flag"), id="the last flag counts"
        ),
    ],
)
def test_order_of_the_sources(text, env, sets, expected, load):
    """Defaults < file < environment < flags, and each setting knows who set it."""
    value, origin = expected
    loaded = load(text, env, sets)

    assert value == loaded.settings.import_policy
    assert origin == loaded.origins["import.policy"]
    assert type(loaded.settings.import_policy) is type(Settings().import_policy)
    assert {"default"} == {loaded.origins[key] for key in KEYS if key != "import.policy"}


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("policy", "mtime", "mtime"),
        ("recovery.reproject", "ask", "ask"),
        ("trash.keep_days", "0", 0),
        ("history.keep_days", "7", 7),
        ("history.keep_versions", "1", 1),
        ("history.max_bytes", "1048576", 1048576),
        ("history.max_bytes", "2 GiB", 2 * 1024**3),
        ("history.max_bytes", "500MB", 500_000_000),
        ("history.max_bytes", "1.5 kib", 1536),
        ("history.max_bytes", "7 B", 7),
        ("target.default", "last", "last"),
        ("target.default", "jp-c17457886043", "jp-c17457886043"),
        ("target.default", "17457886043", "17457886043"),
        ("notify.desktop", "false", False),
        ("notify.desktop", "0", False),
        ("notify.desktop", "1", True),
        ("notify.desktop", "True", True),
        ("notify.command", "notify-send 'a=b'", "notify-send 'a=b'"),
        ("notify.command", "", None),
        ("metrics.textfile", "/var/lib/m.prom", "/var/lib/m.prom"),
        ("metrics.textfile", "", None),
        ("log.level", "debug", "debug"),
    ],
)
@pytest.mark.parametrize("source", ["env", "flag"])
def test_values_as_text(source, key, text, value, load):
    """In the environment and in a flag a value is text, and becomes what its key is."""
    name = "CONVSYNC_" + key.upper().replace(".", "__")
    loaded = load(env={name: text}) if source == "env" else load(sets=[f"{key}={text}"])

    assert value == getattr(loaded.settings, KEYS[key].field)
    assert source == loaded.origins[key]


def test_a_tilde_is_the_home(load, monkeypatch):
    """A path may start at the home; it is absolute once loaded, as the agent's directory is nobody's."""
    monkeypatch.setenv("HOME", "/h")

    assert load(sets=["metrics.textfile=~/m.prom"]).settings.metrics_textfile == "/h/m.prom"


def test_what_is_no_setting(load, tmp_path):
    """Variables that say where things are pass, and foreign ones are not looked at."""
    (tmp_path / "named.toml").write_text("policy = 'mtime'")
    places = dict.fromkeys(("CONVSYNC_STATE_DIR", "CONVSYNC_DATA_DIR", "CONVSYNC_CONVERSATION"), "/x")
    loaded = load(
        env={**places, "CONVSYNC_CONFIG": str(tmp_path / "named.toml"), "_CONVSYNC_COMPLETE": "x", "CONV": "x"}
    )

    assert loaded.settings == Settings(policy=type(Settings().policy)("mtime"))
    assert loaded.path == str(tmp_path / "named.toml")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\n", id="blank"),
        pytest.param("# policy = 'mtime'\n[import]\n# policy = 'manual'\n", id="all commented out"),
        pytest.param("\ufeff# with a byte order mark\n", id="byte order mark"),
    ],
)
def test_a_file_that_says_nothing(text, load):
    """Such a file changes nothing."""
    assert load(text).settings == Settings()


@pytest.mark.parametrize("how", ["flag", "variable"])
@pytest.mark.parametrize("name", ["missing.toml", "c.toml/below", ".", "nul\0"])
def test_a_named_file_that_is_none(name, how, home, tmp_path):
    """A file that somebody named has to be there and be a file."""
    (tmp_path / "c.toml").touch()
    path = str(tmp_path / name)
    with pytest.raises(UsageProblem, match="cannot read the config file") as caught:
        config.load(*((path, home) if how == "flag" else (None, {**home, "CONVSYNC_CONFIG": path})))

    assert (caught.value.code, caught.value.where) == ("config", path)


def test_an_unreadable_file(home, tmp_path):
    """A file that may not be read is a storage problem that says why; it never counts as missing."""
    path = tmp_path / "c.toml"
    path.touch(mode=0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(StorageProblem, match="cannot read the config file: Permission denied") as caught:
            config.load(str(path), home)
    finally:
        if before == 0:
            os.seteuid(0)

    assert (caught.value.code, caught.value.where) == ("denied", str(path))


def test_a_pipe_is_a_file_too(home):
    """`--config <(make-config)` works."""
    reader, writer = os.pipe()
    os.write(writer, b"policy = 'mtime'")
    os.close(writer)
    try:
        loaded = config.load(f"/dev/fd/{reader}", home)
    finally:
        os.close(reader)

    assert loaded.origins["policy"] == "file"


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, False), (0o664, False), (0o666, True)])
def test_a_file_that_others_may_write(mode, warned, load, tmp_path):
    """The file may name a command to run, so who else can change it is worth a warning."""
    load("policy = 'mtime'")
    (tmp_path / "c.toml").chmod(mode)
    warnings = config.load(str(tmp_path / "c.toml"), {}).warnings

    assert ((f"{tmp_path / 'c.toml'} can be written by other users",) if warned else ()) == warnings


def test_nothing_to_check_imports_nothing(tmp_path):
    """Without file, variable and flag neither pydantic nor the TOML parser nor the patterns are imported."""
    ask = (
        "import os, sys; from convsync_agent import config; config.load(None, os.environ, ());"
        "late = {'pydantic', 'pydantic_core', 'tomllib', 'platformdirs', 'convsync_agent.redact'};"
        "print(sorted(late & set(sys.modules)))"
    )
    env = {"HOME": str(tmp_path), "PYTHONPATH": os.path.dirname(os.path.dirname(config.__file__))}
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_schema_is_that_of_the_table():
    """Every key is in the schema with its words and its default, and nothing else is allowed."""
    schema = config.json_schema()
    json.dumps(schema)

    found = {}
    tables = [("", schema)] + [(name + ".", part) for name, part in schema["$defs"].items()]
    for prefix, table in tables:
        assert table["additionalProperties"] is False
        found |= {prefix + name: part for name, part in table["properties"].items() if "$ref" not in part}
    assert {key: what.description for key, what in KEYS.items()} == {
        k: part["description"] for k, part in found.items()
    }
    assert {key: value if value is not None else "" for key, value in DOCUMENTED.items()} == {
        key: part["default"] for key, part in found.items()
    }


def test_defaults_pass_their_own_check(load):
    """A file that writes out every default loads, and means the same."""
    written = "".join(f"{key} = {json.dumps('' if v is None else v)}\n" for key, v in DOCUMENTED.items())
    assert tomllib.loads(written)

    loaded = load(written)
    assert loaded.settings == Settings()
    assert set(loaded.origins.values()) == {"file"}


def test_every_field_has_one_key():
    """The table covers the settings, each once, and says something about each."""
    fields = sorted(Settings.__dataclass_fields__)

    assert fields == sorted(what.field for what in KEYS.values())
    assert all(what.description.endswith(".") and what.allowed for what in KEYS.values())
