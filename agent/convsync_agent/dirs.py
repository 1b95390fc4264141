"""Where things are: JP's user data, and convsync's own state, data, config and runtime directories.

The only module that knows platformdirs, and it asks it late: importing it costs more than half of
what `status` may take, and on Linux the answer is two lines.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Mapping

from convsync_agent.errors import NotFound, UsageProblem, storage_problem

APP = "convsync"
CONFIG_FILE = "config.toml"
PRIVATE = 0o700

_HOME_DEFAULT = {"XDG_STATE_HOME": ".local/state", "XDG_DATA_HOME": ".local/share", "XDG_CONFIG_HOME": ".config"}


def jp_user_data_dir(env: Mapping[str, str] | None = None) -> str:
    """JP's user data directory as JP itself finds it (contract 2.1), made absolute for the registry."""
    env = os.environ if env is None else env
    if explicit := _utf8(env, "JP_USER_DATA_DIR"):
        return _absolute(explicit, "JP_USER_DATA_DIR")
    if xdg := _absolute_value(_utf8(env, "XDG_DATA_HOME")):
        return os.path.join(xdg, "jp")
    home = _home(env, way_out="set HOME or JP_USER_DATA_DIR")
    if sys.platform == "darwin":
        return os.path.join(home, "Library", "Application Support", "jp")
    # The crate behind JP's default takes the bytes of XDG_DATA_HOME, so here a value that is no UTF-8 counts after all.
    return os.path.join(_absolute_value(env.get("XDG_DATA_HOME")) or os.path.join(home, ".local", "share"), "jp")


def state_dir(env: Mapping[str, str] | None = None) -> str:
    """Where `state.db`, `agent.lock` and `runtime.json` live."""
    return _own("CONVSYNC_STATE_DIR", "XDG_STATE_HOME", env)


def data_dir(env: Mapping[str, str] | None = None) -> str:
    """Where the history and the kept copies live."""
    return _own("CONVSYNC_DATA_DIR", "XDG_DATA_HOME", env)


def config_path(explicit: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """The config file: `explicit`, else `$CONVSYNC_CONFIG`, else the platform's place. It need not exist."""
    env = os.environ if env is None else env
    if explicit is not None:
        return _absolute(explicit, "--config")
    if named := env.get("CONVSYNC_CONFIG"):
        return _absolute(named, "CONVSYNC_CONFIG")
    return os.path.join(_platform("XDG_CONFIG_HOME", env), CONFIG_FILE)


def runtime_dir(env: Mapping[str, str] | None = None) -> str:
    """Where sockets live: below `$XDG_RUNTIME_DIR` if that is really ours, else below the state directory."""
    env = os.environ if env is None else env
    base = env.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(base):
        try:
            seen = os.stat(base)
        except (OSError, ValueError):
            seen = None
        if seen and stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid():
            return os.path.join(base, APP)
    return os.path.join(state_dir(env), "run")


def ensure_private(path: str) -> None:
    """Make `path` a directory that only its owner may enter; parents that have to be made are private too."""
    try:
        _make(path)
        seen = os.stat(path)
        if not stat.S_ISDIR(seen.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if stat.S_IMODE(seen.st_mode) & 0o777 != PRIVATE:
            os.chmod(path, PRIVATE)
    except OSError as error:
        raise storage_problem(error, path, "make a private directory") from error


def _make(path: str) -> None:
    """`mkdir -p`, private at every level. A link to nowhere exists for its parent only: one more try, no loop."""
    try:
        try:
            os.mkdir(path, PRIVATE)
        except FileNotFoundError:
            parent = os.path.dirname(path)
            if parent in ("", path):
                raise
            _make(parent)
            os.mkdir(path, PRIVATE)
    except FileExistsError:
        return
    os.chmod(path, PRIVATE)  # a umask may have taken the owner's own bits


def _own(variable: str, xdg: str, env: Mapping[str, str] | None) -> str:
    env = os.environ if env is None else env
    explicit = env.get(variable)
    return _absolute(explicit, variable) if explicit else _platform(xdg, env)


def _platform(xdg: str, env: Mapping[str, str]) -> str:
    """What platformdirs says for `xdg`; the plain Linux case is answered here, without importing it."""
    if sys.platform == "linux" and "ANDROID_ROOT" not in env:
        if base := _absolute_value(env.get(xdg)):
            return os.path.join(base, APP)
        if home := _absolute_value(env.get("HOME")):
            return os.path.join(home.rstrip("/") + "/" + _HOME_DEFAULT[xdg], APP)
    return _asked(xdg)


def _asked(xdg: str) -> str:
    """What platformdirs says; it reads the environment of the process."""
    import platformdirs  # noqa: PLC0415

    ask = {
        "XDG_STATE_HOME": platformdirs.user_state_dir,
        "XDG_DATA_HOME": platformdirs.user_data_dir,
        "XDG_CONFIG_HOME": platformdirs.user_config_dir,
    }[xdg]
    try:
        return ask(APP, appauthor=False)
    except RuntimeError as error:
        raise NotFound("no home directory", hint=f"set HOME or {xdg} to an absolute path", code="no-home") from error


def _home(env: Mapping[str, str], *, way_out: str) -> str:
    """HOME, or where it is unset or empty what the password database says."""
    if home := env.get("HOME"):
        return _absolute(home, "HOME")
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError as error:
        raise NotFound("no home directory", hint=way_out, code="no-home") from error


def _utf8(env: Mapping[str, str], variable: str) -> str:
    """The value, or "" where it is unset or no UTF-8, which JP takes for unset."""
    value = env.get(variable, "")
    try:
        value.encode()
    except UnicodeEncodeError:
        return ""
    return value


def _absolute_value(value: str | None) -> str:
    return value if value and os.path.isabs(value) else ""


def _absolute(path: str, origin: str) -> str:
    """`path` against the working directory, otherwise verbatim: `..` after a symlink must keep its meaning."""
    if os.path.isabs(path):
        return path
    try:
        return os.path.join(os.getcwd(), path)
    except OSError as error:
        raise UsageProblem(
            f"{origin} is relative and the working directory is gone", where=path, hint=f"make {origin} absolute"
        ) from error
