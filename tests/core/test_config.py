"""Settings: four sources in one order, every mistake at once, and nothing paid for what is not used."""

import json
import os
import subprocess
import sys
import tomllib

import pytest

from convsync_agent import config
from convsync_agent.errors import StorageProblem, UsageProblem
from convsync_agent.settings import KEYS, Settings


@pytest.fixture(name="home")
def _home(tmp_path):
    """An environment of its own, with an empty home."""
    return {"HOME": str(tmp_path)}


@pytest.fixture(name="load")
def _load(tmp_path, home):
    """Loads settings from the text of a file, an environment and flags."""

    def load(text=None, env=None, sets=()):
        path = None
        if text is not None:
            path = str(tmp_path / "c.toml")
            (tmp_path / "c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load(path, {**home, **(env or {})}, sets)

    return load


def lines_of(problem):
    """The mistakes that a message tells, one a line."""
    lines = problem.message.split("\n")
    return lines if len(lines) == 1 else [line.strip() for line in lines[1:]]


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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policy = 'newest'", ["policy = 'newest'", "guarded, mtime"]),
        ("policy = 1", ["policy = 1", "guarded, mtime"]),
        ("policy = {}", ["policy = a table", "guarded, mtime"]),
        ("[import]\npolicy = 'Auto'", ["import.policy = 'Auto'", "auto, on-write, manual"]),
        ("import = 3", ["import = 3", "a table with import.policy"]),
        ("[trash]\nkeep_days = -1", ["trash.keep_days = -1", "from 0 to 36500"]),
        ("[trash]\nkeep_days = '30'", ["trash.keep_days = '30'", "a whole number"]),
        ("[trash]\nkeep_days = 30.0", ["trash.keep_days = 30.0", "a whole number"]),
        ("[trash]\nkeep_days = true", ["trash.keep_days = true", "a whole number"]),
        ("[history]\nkeep_versions = 0", ["history.keep_versions = 0", "from 1 to"]),
        ("[history]\nmax_bytes = 'big'", ["history.max_bytes = 'big'", "'2 GiB'"]),
        ("[history]\nmax_bytes = '0 GiB'", ["history.max_bytes = '0 GiB'", "above 0"]),
        ("[history]\nmax_bytes = false", ["history.max_bytes = false", "bytes"]),
        ("[target]\ndefault = 'my plan'", ["target.default = 'my plan'", "ask, last", "jp-c17457886043"]),
        ("[notify]\ndesktop = 'yes'", ["notify.desktop = 'yes'", "true, false"]),
        ("[notify]\ndesktop = 1", ["notify.desktop = 1", "true, false"]),
        ("[notify]\ncommand = ['a']", ["notify.command = ['a']", "text"]),
        ("[metrics]\ntextfile = 'm.prom'", ["metrics.textfile = 'm.prom'", "an absolute path"]),
        ("[metrics]\ntextfile = '~nobody-of-that-name/m'", ["metrics.textfile", "an absolute path"]),
        ("[log]\nlevel = 'trace'", ["log.level = 'trace'", "debug, info, warning, error"]),
        ("polcy = 'mtime'", ["unknown key polcy = 'mtime'", "did you mean policy?"]),
        ("[improt]\npolicy = 'auto'", ["unknown key improt.policy = 'auto'", "did you mean import.policy?"]),
        ("[import]\nwhen = 'auto'", ["unknown key import.when = 'auto'", "allowed: policy, import.policy"]),
        ("'import.policy' = 'auto'", ["unknown key 'import.policy' = 'auto'"]),
        ("[zoo]", ["unknown key zoo = a table", "allowed: policy"]),
    ],
)
def test_a_mistake_in_the_file(text, told, load, tmp_path):
    """The one line names the file, the key, the value and what is allowed."""
    with pytest.raises(UsageProblem) as caught:
        load(text)

    (line,) = lines_of(caught.value)
    assert line.startswith(f"{tmp_path / 'c.toml'}: ")
    assert [part for part in told if part not in line] == []
    assert (caught.value.code, caught.value.exit_code, caught.value.hint) == ("config", 2, "convsync config schema")


@pytest.mark.parametrize(
    ("env", "told"),
    [
        (
            {"CONVSYNC_IMPORT__POLICY": "never"},
            ["environment CONVSYNC_IMPORT__POLICY: import.policy = 'never'", "auto, on-write, manual"],
        ),
        (
            {"CONVSYNC_IMPORT_POLICY": "manual"},
            ["environment CONVSYNC_IMPORT_POLICY: unknown key", "'manual'", "did you mean CONVSYNC_IMPORT__POLICY?"],
        ),
        ({"CONVSYNC_ZOO": "1"}, ["CONVSYNC_ZOO", "'1'", "allowed: CONVSYNC_POLICY, CONVSYNC_IMPORT__POLICY"]),
        ({"CONVSYNC_POLICY": ""}, ["policy = ''", "guarded, mtime"]),
        ({"CONVSYNC_POLICY": "mtime\udcff"}, ["policy = 'mtime\\udcff'"]),
        ({"CONVSYNC_TRASH__KEEP_DAYS": "9" * 5000}, ["trash.keep_days = '999", "...", "from 0 to"]),
        ({"CONVSYNC_TRASH__KEEP_DAYS": "٣"}, ["trash.keep_days = '٣'"]),
        ({"CONVSYNC_NOTIFY__DESKTOP": "on"}, ["notify.desktop = 'on'", "1 or 0"]),
        (
            {"CONVSYNC_POLICY": "mtime", "convsync_policy": "guarded"},
            ["environment convsync_policy: policy = 'guarded' is set by CONVSYNC_POLICY too"],
        ),
    ],
)
def test_a_mistake_in_the_environment(env, told, load):
    """The line names the variable; one with our prefix that is no setting is a mistake too."""
    with pytest.raises(UsageProblem) as caught:
        load(env=env)

    (line,) = lines_of(caught.value)
    assert [part for part in told if part not in line] == []


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("import.policy=never", ["--set: import.policy = 'never'", "auto, on-write, manual"]),
        ("import.polcy=auto", ["--set: unknown key import.polcy = 'auto'", "did you mean import.policy?"]),
        ("import.policy", ["--set: 'import.policy' is not KEY=VALUE", "--set import.policy=manual"]),
        ("=auto", ["--set: unknown key"]),
        ("a\nb=1", ["--set: unknown key a b = '1'"]),
    ],
)
def test_a_mistake_in_a_flag(flag, told, load):
    """The line names the flag and shows how one is written."""
    with pytest.raises(UsageProblem) as caught:
        load(sets=[flag])

    (line,) = lines_of(caught.value)
    assert [part for part in told if part not in line] == []


def test_all_mistakes_of_a_file_at_once(load):
    """Three mistakes are three lines: nobody has to run it three times."""
    with pytest.raises(UsageProblem) as caught:
        load("policy = 'x'\nzoo = 1\n[trash]\nkeep_days = -1\n[import]\npolicy = 'manual'\n")

    lines = lines_of(caught.value)
    assert len(lines) == 3
    assert caught.value.message.startswith("3 mistakes in the settings:\n")
    for part in ("policy = 'x'", "zoo = 1", "trash.keep_days = -1"):
        assert sum(part in line for line in lines) == 1


def test_all_mistakes_of_all_sources_at_once(load, tmp_path):
    """A mistake in one source hides none in another, not even one that is overridden."""
    with pytest.raises(UsageProblem) as caught:
        load("policy = 'x'\n", {"CONVSYNC_POLICY": "y", "CONVSYNC_ZOO": "1"}, ["policy=mtime", "log.level=z", "q"])

    starts = [line.partition(": ")[0] for line in lines_of(caught.value)]
    assert starts == [
        str(tmp_path / "c.toml"),
        "environment CONVSYNC_ZOO",
        "environment CONVSYNC_POLICY",
        "--set",
        "--set",
    ]


def test_a_secret_under_a_wrong_key_is_not_repeated(load):
    """A value that is wrong because it belongs elsewhere may be a secret."""
    secret = "ghp_" + "Ab3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cF3iL6oR9uX2"[:36]
    with pytest.raises(UsageProblem) as caught:
        load(f"policy = '{'x' * 40} {secret}'\n[notify]\ntoken = 'abcdefghij'", {"CONVSYNC_ZOO": secret}, [secret])

    assert "ghp_" not in caught.value.message
    assert "abcdefghij" not in caught.value.message


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
    ("text", "line", "why"),
    [
        ("policy = 'mtime'\n[import\npolicy = 'auto'\n", 2, "]"),
        ("policy = mtime\n", 1, "Invalid value"),
        ("policy = 'mtime'\npolicy = 'mtime'\n", 2, "Cannot overwrite a value"),
        ("policy = 'mtime'\n\n[import]\npolicy =", 4, "Invalid value"),
        (b"policy = 'mtime'\n# caf\xe9\n", 2, "not UTF-8"),
    ],
)
def test_bad_toml(text, line, why, load, tmp_path):
    """What is not TOML is told with file and line, beside the mistakes of the other sources."""
    with pytest.raises(UsageProblem) as caught:
        load(text, {"CONVSYNC_POLICY": "x"})

    first, second = lines_of(caught.value)
    assert first.startswith(f"{tmp_path / 'c.toml'}, line {line}: not valid TOML: ")
    assert why in first
    assert "CONVSYNC_POLICY" in second


@pytest.mark.parametrize(
    "text",
    [pytest.param("x = " + "[" * 3000, id="deep nesting"), pytest.param("x = " + "9" * 6000, id="a huge number")],
)
def test_hostile_toml(text, load):
    """What the parser itself gives up on is a mistake like any other."""
    with pytest.raises(UsageProblem, match="not valid TOML: "):
        load(text)


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
