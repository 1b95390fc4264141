"""How this very convsync is run again by somebody else: its executable, its variables, its flags.

The path has to survive an upgrade. pipx and uv put a link into ~/.local/bin and make the environment behind it anew,
so the link is preferred to what it points to.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence

from convsync_agent import errand
from convsync_agent.errors import Refused, UsageProblem
from convsync_agent.launchd import default_log
from convsync_agent.service import Launch
from convsync_agent.settings import NOT_SETTINGS

NAME = "convsync"
PLACES = ("JP_USER_DATA_DIR", "CONVSYNC_CONFIG", "CONVSYNC_STATE_DIR", "CONVSYNC_DATA_DIR")
"""Paths; made absolute, for a service has another working directory."""

BASES = ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")
"""The rest of XDG_* belongs to one login; XDG_RUNTIME_DIR is the manager's own to say."""


def launch(config: str | None = None, sets: Sequence[str] = ()) -> Launch:
    """Everything a service manager needs to run the agent as this process would.

    Raises UsageProblem for what no unit can hold, Refused when the executable found does not run on its own.
    """
    flags = ["--config", os.path.abspath(config)] if config is not None else []
    for text in sets:
        flags += ["--set", text]
    found = Launch((*executable(), *flags, "agent"), variables(os.environ), default_log())
    for name, value in (("", " ".join(found.argv)), *found.environment):
        _require_text(name, value)
    return found


def executable() -> tuple[str, ...]:
    """The command that starts this program, absolute, by the path that lasts longest."""
    beside = os.path.join(os.path.dirname(sys.executable), NAME)
    called = os.path.abspath(sys.argv[0]) if os.path.basename(sys.argv[0]) == NAME else beside
    home = os.path.expanduser(f"~/.local/bin/{NAME}")
    for one in (called, beside):
        if _runs(one):
            behind = os.path.realpath(one)
            known = (home, shutil.which(NAME))
            links = [p for p in known if p and os.path.isabs(p) and _runs(p) and os.path.realpath(p) == behind]
            return (links[0] if links else one,)
    return (sys.executable, "-m", "convsync_cli")


def variables(env: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Where things are and how to behave, as this shell says it; what belongs to one terminal stays there."""
    chosen = {}
    for name, value in env.items():
        setting = name.startswith("CONVSYNC_") and name not in NOT_SETTINGS
        if name in PLACES and value:
            chosen[name] = os.path.abspath(value)
        elif setting or (name in BASES and os.path.isabs(value)):
            chosen[name] = value
    return tuple(sorted(chosen.items()))


def require_running(found: Launch) -> None:
    """Run it once, without what only this shell has. Raises Refused if it does not start."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    words = found.argv[: 3 if "-m" in found.argv[1:2] else 1]
    answer = errand.run([*words, "--version"], env=bare, patience=60.0)
    if not answer.fine:
        raise Refused(
            "this convsync does not start without the variables of this shell",
            where=" ".join(words),
            hint="pipx install convsync, then: convsync service install",
            code="not-runnable",
        )


def _runs(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _require_text(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        what = f"the variable {name}" if name else "the command line"
        raise UsageProblem(f"{what} is not UTF-8, so no service can have it", hint="use another path") from None
