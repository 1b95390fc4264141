"""What goes into a support bundle: documents about this machine, none of them about what was said on it."""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from convsync_agent import __version__, config, errand, mounts, outsiders, state
from convsync_agent.anonymity import impersonal, without_values
from convsync_agent.bounded import looked
from convsync_agent.errors import ConvsyncError
from convsync_agent.finding import Code, tally
from convsync_agent.selfcheck import SQLITE
from convsync_agent.systemd import UNIT
from convsync_cli.standing import standing

if TYPE_CHECKING:
    from convsync_agent.finding import Finding
    from convsync_cli.context import Context

LINES, DEEDS = 300, 500
SECONDS = 20.0
PACKAGES = ("click", "platformdirs", "portalocker", "pydantic", "structlog", "watchdog")
README = """A support bundle of convsync, for whoever helps you.

{names}

Look at it before you give it away. It holds ids, counts, times, paths of roots and settings. It holds no text of a
conversation, no title and no name of a conversation's directory. Your home directory is written ~, your user name in
other paths USER, values that look like a secret [redacted:kind]. What is left of a path, such as the name of a
repository or of a mount, is as it is on your machine.
"""
CONTENTS = {
    "doctor.json": "what `convsync doctor` found",
    "status.json": "what `convsync status --json` says, with all counts",
    "versions.json": "convsync, Python, the system, the libraries, git",
    "settings.json": "settings and their origins; of notify.command: is it set",
    "actions.json": "the last actions: ids, times, roots, sizes",
    "counts.json": "rows of the state file, sizes of what is stored",
    "limits.json": "kernel limits, file systems of every root",
    "journal.txt": "the end of the service's log",
}


def gather(context: Context, findings: list[Finding]) -> dict[str, str]:
    """Every document by name, with everything personal taken out."""
    makers: dict[str, Callable[[], Any]] = {
        "doctor.json": partial(_doctor, findings),
        "status.json": partial(standing, context.state_dir, context.runtime_dir),
        "versions.json": _versions,
        "settings.json": partial(_settings, context),
        "actions.json": partial(_actions, context),
        "counts.json": partial(_counts, context),
        "limits.json": partial(_limits, context),
        "journal.txt": partial(outsiders.journal, UNIT, LINES),
    }
    documents = {}
    for name, answer in looked(makers, SECONDS).items():
        content = answer.value
        if answer.failure is not None or not answer.done:
            why = type(answer.failure).__name__ if answer.failure is not None else "no answer"
            content = {"unavailable": getattr(answer.failure, "code", None) or why}
        if content is not None:
            clean = impersonal(content, _homes(), _user())
            documents[name] = (
                clean if isinstance(clean, str) else json.dumps(clean, indent=2, ensure_ascii=False) + "\n"
            )
    names = "\n".join(f"{name:14} {CONTENTS[name]}" for name in documents)
    return {"README.txt": README.format(names=names)} | documents


def _homes() -> list[str]:
    home = os.path.expanduser("~")
    return [home, os.path.realpath(home)]


def _user() -> str:
    import pwd  # noqa: PLC0415

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return os.environ.get("USER", "")


def _doctor(findings: list[Finding]) -> dict[str, Any]:
    errors, warnings = tally(findings)
    shown = [f._replace(what=without_values(f.what)) if f.code is Code.CONFIG else f for f in findings]
    return {"ok": not errors, "errors": errors, "warnings": warnings, "checks": [f.as_json() for f in shown]}


def _versions() -> dict[str, Any]:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = ""
    git = errand.run(["git", "--version"])
    return {
        "convsync": __version__,
        "executable": sys.argv[0],
        "python": platform.python_version(),
        "prefix": sys.prefix,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()),
        "sqlite": SQLITE,
        "git": git.out.strip() if git.fine else None,
        "packages": packages,
    }


def _settings(context: Context) -> dict[str, Any]:
    try:
        loaded = config.load(context.config, os.environ, context.sets)
    except ConvsyncError as problem:
        return {"mistakes": [without_values(m) for m in config.mistakes_of(problem)]}
    rows = config.as_toml_rows(loaded)
    hidden = {"notify.command"}
    return {
        "path": loaded.path,
        "settings": {k: ("[set]" if v else None) if k in hidden else v for k, v, _ in rows},
        "origins": {k: origin for k, _, origin in rows},
        "variables": sorted(n for n in os.environ if n.startswith(("CONVSYNC_", "JP_", "XDG_"))),
    }


def _actions(context: Context) -> list[dict[str, Any]]:
    opened = context.reader()
    if opened is None:
        return []
    try:
        return [{**d._asdict(), "conversation": f"jp-c{d.conversation}"} for d in opened.newest_deeds(DEEDS)]
    finally:
        opened.close()


def _counts(context: Context) -> dict[str, Any]:
    opened = context.reader()
    try:
        rows = opened.row_counts() if opened is not None else {}
    finally:
        if opened is not None:
            opened.close()
    stored = {}
    for name in ("history", "trash"):
        sizes = [
            os.lstat(os.path.join(at, file)).st_size
            for at, _, files in os.walk(os.path.join(context.data_dir, name))
            for file in files
        ]
        stored[name] = {"files": len(sizes), "bytes": sum(sizes)}
    return {"schema": state.VERSION, "rows": rows, "stored": stored}


def _limits(context: Context) -> dict[str, Any]:
    opened = context.reader()
    places = [context.state_dir, context.data_dir, context.runtime_dir]
    if opened is not None:
        places += [w.silo for w in opened.workspaces()] + [t.path for t in opened.worktrees()]
        opened.close()
    table = mounts.mount_table()
    kinds = {p: mounts.file_system_of(p, table) for p in places} if table is not None else {}
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"inotify": mounts.inotify_use()._asdict(), "open_files": files, "file_systems": kinds}
