"""Where things are: JP's rules for JP's data, platformdirs' for ours, without paying for platformdirs."""

import os
import pwd
import stat
import subprocess
import sys

import pytest

from convsync_agent import dirs
from convsync_agent.errors import StorageProblem, UsageProblem

VARIABLES = (
    "CONVSYNC_CONFIG",
    "CONVSYNC_DATA_DIR",
    "CONVSYNC_STATE_DIR",
    "HOME",
    "JP_USER_DATA_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
)
NOT_UTF8 = b"/data\xff".decode(errors="surrogateescape")


@pytest.fixture(name="environment")
def _environment(monkeypatch):
    """A process environment that says of our variables just what it is given."""

    def use(**variables):
        for name in VARIABLES:
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    use()
    return use


@pytest.mark.parametrize(
    ("env", "linux", "mac"),
    [
        pytest.param(
            {"HOME": "/h"}, "/h/.local/share/jp", "/h/Library/Application Support/jp", id="nothing set: the platform's"
        ),
        pytest.param({"HOME": "/h", "XDG_DATA_HOME": "/x"}, "/x/jp", "/x/jp", id="XDG counts on every platform"),
        pytest.param(
            {"HOME": "/h", "XDG_DATA_HOME": "x"},
            "/h/.local/share/jp",
            "/h/Library/Application Support/jp",
            id="a relative XDG is unset",
        ),
        pytest.param(
            {"HOME": "/h", "XDG_DATA_HOME": ""},
            "/h/.local/share/jp",
            "/h/Library/Application Support/jp",
            id="an empty XDG is unset",
        ),
        pytest.param(
            {"HOME": "/h", "XDG_DATA_HOME": NOT_UTF8},
            f"{NOT_UTF8}/jp",
            "/h/Library/Application Support/jp",
            id="XDG without UTF-8: only Linux's own default takes it",
        ),
        pytest.param({"HOME": "/h", "XDG_DATA_HOME": "/x", "JP_USER_DATA_DIR": "/j"}, "/j", "/j", id="JP's own first"),
        pytest.param({"HOME": "/h", "JP_USER_DATA_DIR": "/a/../j/"}, "/a/../j/", "/a/../j/", id="verbatim"),
        pytest.param({"HOME": "/h", "JP_USER_DATA_DIR": "~/j"}, "{cwd}/~/j", "{cwd}/~/j", id="no tilde expansion"),
        pytest.param({"HOME": "/h", "JP_USER_DATA_DIR": "j"}, "{cwd}/j", "{cwd}/j", id="relative to the process"),
        pytest.param(
            {"HOME": "/h", "XDG_DATA_HOME": "/x", "JP_USER_DATA_DIR": ""}, "/x/jp", "/x/jp", id="empty is unset"
        ),
        pytest.param(
            {"HOME": "/h", "XDG_DATA_HOME": "/x", "JP_USER_DATA_DIR": NOT_UTF8},
            "/x/jp",
            "/x/jp",
            id="no UTF-8 is unset",
        ),
        pytest.param(
            {"HOME": ""},
            "{pw}/.local/share/jp",
            "{pw}/Library/Application Support/jp",
            id="an empty HOME: the password database",
        ),
        pytest.param({}, "{pw}/.local/share/jp", "{pw}/Library/Application Support/jp", id="no HOME at all"),
    ],
)
def test_jp_user_data_dir(env, linux, mac, monkeypatch, tmp_path):
    """JP's directory is found by JP's three steps, in JP's order, on both platforms."""
    monkeypatch.chdir(tmp_path)
    known = {"cwd": str(tmp_path), "pw": pwd.getpwuid(os.getuid()).pw_dir}
    for platform, expected in (("linux", linux), ("darwin", mac)):
        monkeypatch.setattr(sys, "platform", platform)  # one of the two is not the one that runs here
        found = dirs.jp_user_data_dir(env)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)

        assert expected.format(**known) == found


def test_jp_user_data_dir_reads_the_process(environment):
    """Without an argument the environment of the process is asked."""
    environment(HOME="/h", JP_USER_DATA_DIR="/j")

    assert dirs.jp_user_data_dir() == "/j"


def test_relative_without_a_working_directory(monkeypatch, tmp_path):
    """A relative value means nothing where the working directory is gone, and that is said."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(UsageProblem, match="JP_USER_DATA_DIR is relative") as caught:
        dirs.jp_user_data_dir({"JP_USER_DATA_DIR": "j"})

    assert caught.value.hint


@pytest.mark.parametrize(
    "env",
    [
        pytest.param({"HOME": "/home/a"}, id="HOME"),
        pytest.param({"HOME": "/home/a/"}, id="HOME with a slash"),
        pytest.param({"HOME": "/"}, id="HOME is the root"),
        pytest.param({"HOME": "/home/a b/é"}, id="HOME with blanks"),
        pytest.param({"HOME": ""}, id="empty HOME"),
        pytest.param({}, id="no HOME"),
        pytest.param({"HOME": "/h", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}, id="XDG"),
        pytest.param(
            {"HOME": "/h", "XDG_STATE_HOME": "/s/", "XDG_DATA_HOME": "/d/", "XDG_CONFIG_HOME": "/c/"},
            id="XDG with a slash",
        ),
        pytest.param(
            {"HOME": "/h", "XDG_STATE_HOME": "s", "XDG_DATA_HOME": "~/d", "XDG_CONFIG_HOME": ""},
            id="XDG relative, with a tilde, empty",
        ),
        pytest.param({"XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d", "XDG_CONFIG_HOME": "/c"}, id="XDG without HOME"),
    ],
)
def test_the_short_way_agrees_with_platformdirs(env, environment):
    """What is answered without platformdirs is what platformdirs would have answered."""
    import platformdirs

    environment(**env)

    assert platformdirs.user_state_dir("convsync", appauthor=False) == dirs.state_dir()
    assert platformdirs.user_data_dir("convsync", appauthor=False) == dirs.data_dir()
    assert os.path.join(platformdirs.user_config_dir("convsync", appauthor=False), "config.toml") == dirs.config_path()


@pytest.mark.skipif(sys.platform != "linux", reason="the short way is Linux's")
def test_the_plain_case_imports_no_platformdirs():
    """With a HOME and no more, no place costs the import of platformdirs."""
    ask = (
        "import sys; from convsync_agent import dirs;"
        "dirs.state_dir(), dirs.data_dir(), dirs.config_path(None), dirs.runtime_dir(), dirs.jp_user_data_dir();"
        "print('platformdirs' in sys.modules)"
    )
    env = {"HOME": "/h", "PYTHONPATH": os.path.dirname(os.path.dirname(dirs.__file__))}
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("/s", "/s", id="absolute"),
        pytest.param("s/t", "{cwd}/s/t", id="relative to the process"),
        pytest.param("", "/x/convsync", id="empty is unset"),
    ],
)
def test_own_variables_come_first(value, expected, monkeypatch, tmp_path):
    """CONVSYNC_STATE_DIR and CONVSYNC_DATA_DIR are the directory itself; nothing is appended."""
    monkeypatch.chdir(tmp_path)
    env = {"HOME": "/h", "XDG_STATE_HOME": "/x", "XDG_DATA_HOME": "/x"}

    assert expected.format(cwd=tmp_path) == dirs.state_dir({**env, "CONVSYNC_STATE_DIR": value})
    assert expected.format(cwd=tmp_path) == dirs.data_dir({**env, "CONVSYNC_DATA_DIR": value})


@pytest.mark.parametrize(
    ("explicit", "variable", "expected"),
    [
        pytest.param("/f.toml", "/e.toml", "/f.toml", id="the flag"),
        pytest.param("f.toml", "/e.toml", "{cwd}/f.toml", id="a relative flag"),
        pytest.param(None, "/e.toml", "/e.toml", id="the variable"),
        pytest.param(None, "", "/c/convsync/config.toml", id="an empty variable is unset"),
        pytest.param(None, None, "/c/convsync/config.toml", id="the platform's place"),
    ],
)
def test_config_path(explicit, variable, expected, monkeypatch, tmp_path):
    """The config file is the flag's, else the variable's, else the platform's."""
    monkeypatch.chdir(tmp_path)
    env = {"HOME": "/h", "XDG_CONFIG_HOME": "/c"} | ({} if variable is None else {"CONVSYNC_CONFIG": variable})

    assert expected.format(cwd=tmp_path) == dirs.config_path(explicit, env)


def test_runtime_dir_of_the_session(tmp_path):
    """A runtime directory that exists and is ours is used."""
    env = {"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}

    assert str(tmp_path / "convsync") == dirs.runtime_dir(env)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(None, id="unset"),
        pytest.param("", id="empty"),
        pytest.param("run", id="relative"),
        pytest.param("{tmp}/missing", id="missing"),
        pytest.param("{tmp}/file", id="a file"),
        pytest.param("{tmp}/nul\0", id="not a path"),
    ],
)
def test_runtime_dir_falls_back(value, monkeypatch, tmp_path):
    """Any other runtime directory is passed over for one below the state."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "file").touch()
    env = {"CONVSYNC_STATE_DIR": "/s"} | ({} if value is None else {"XDG_RUNTIME_DIR": value.format(tmp=tmp_path)})

    assert dirs.runtime_dir(env) == "/s/run"


@pytest.mark.parametrize("foreign", ["/", "/proc/1"])
def test_runtime_dir_of_another_user(foreign, without_root):
    """A runtime directory that somebody else owns, as `sudo -E` leaves it, is not ours to use."""
    with without_root():
        assert dirs.runtime_dir({"CONVSYNC_STATE_DIR": "/s", "XDG_RUNTIME_DIR": foreign}) == "/s/run"


@pytest.fixture(name="without_root")
def _without_root():
    """Runs a block without root's rights, which ignore permissions; anybody else runs it as they are."""
    from contextlib import contextmanager

    @contextmanager
    def lowered():
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            if before == 0:
                os.seteuid(0)

    return lowered


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o177])
def test_ensure_private_makes_every_level(umask, tmp_path):
    """Directories that did not exist are 0700, parents too, under any umask; those that did are not touched."""
    os.chmod(tmp_path, 0o755)
    before = os.umask(umask)
    try:
        dirs.ensure_private(str(tmp_path / "a" / "b" / "c"))
    finally:
        os.umask(before)

    assert [mode_of(tmp_path / p) for p in (".", "a", "a/b", "a/b/c")] == [0o755, 0o700, 0o700, 0o700]


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o770, 0o500, 0o700])
def test_ensure_private_tightens(mode, tmp_path):
    """A directory that others may enter is closed to them; a second call changes nothing."""
    path = tmp_path / "open"
    path.mkdir()
    path.chmod(mode)

    dirs.ensure_private(str(path))
    dirs.ensure_private(str(path))

    assert mode_of(path) == 0o700


def test_ensure_private_through_a_link(tmp_path):
    """A state directory on another disk, reached by a link, is made private where it is."""
    (tmp_path / "disk").mkdir(mode=0o755)
    (tmp_path / "link").symlink_to("disk")

    dirs.ensure_private(str(tmp_path / "link"))

    assert (tmp_path / "link").is_symlink()
    assert mode_of(tmp_path / "disk") == 0o700


@pytest.mark.parametrize("path", ["file", "file/below", "dangling", "dangling/below"])
def test_ensure_private_where_no_directory_can_be(path, tmp_path):
    """A file or a dangling link in the way is a storage problem that names the place."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    with pytest.raises(StorageProblem) as caught:
        dirs.ensure_private(str(tmp_path / path))

    assert caught.value.exit_code == 6
    assert caught.value.where == str(tmp_path / path)


def test_ensure_private_in_a_read_only_home(tmp_path, without_root):
    """A home that takes no directory is a storage problem with a hint, not a traceback."""
    tmp_path.chmod(0o500)
    try:
        with without_root(), pytest.raises(StorageProblem, match="cannot make a private directory") as caught:
            dirs.ensure_private(str(tmp_path / "state"))
    finally:
        tmp_path.chmod(0o700)

    assert caught.value.code == "denied"
    assert "permissions" in caught.value.hint
