"""Mistakes in the settings: each is a line that says where, what and what is allowed; all of them at once."""

import pytest

from convsync_agent.errors import UsageProblem


def lines_of(problem):
    """The mistakes that a message tells, one a line."""
    lines = problem.message.split("\n")
    return lines if len(lines) == 1 else [line.strip() for line in lines[1:]]


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
