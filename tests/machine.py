"""A whole machine below one directory: a home, worktrees, silos, conversations in JP's own shape.

Everything is real: files, locks, the state, the command line. Nothing outside `base` is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from convsync_agent.model import QUIET_NS, SECOND
from convsync_cli.main import run

WS = "abcde"
OF_THE_HOST = {"inotify", "file-system", "space", "inodes", "mtime"}  # what doctor finds and no test brought about
LONG_AGO = 1_700_000_000_000_000_000  # an mtime, ns: before everything a test writes


class Ran(NamedTuple):
    """What one command did: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one document on stdout; anything else there fails."""
        return json.loads(self.out)


class Machine:
    """One user's machine. `env` is what a process of it needs; this process gets it from the fixture."""

    def __init__(self, base, capsys=None):
        self.base = Path(os.path.realpath(base))
        self.capsys = capsys
        self.home = self.base / "home"
        places = {"DATA": "data", "STATE": "state", "CONFIG": "config", "RUNTIME": "run"}
        self.env = {"HOME": str(self.home)}
        self.env |= {f"XDG_{k}_{'DIR' if k == 'RUNTIME' else 'HOME'}": str(self.base / v) for k, v in places.items()}
        for place in self.env.values():
            Path(place).mkdir(mode=0o700, parents=True)

    # -- commands -----------------------------------------------------------------

    def run(self, *argv) -> Ran:
        """A command in this process. Needs the `machine` fixture, which set the environment."""
        self.capsys.readouterr()
        code = run([str(a) for a in argv])
        return Ran(code, *self.capsys.readouterr())

    def ok(self, *argv) -> Ran:
        """The same for a command that has to succeed."""
        ran = self.run(*argv)
        assert ran.code == 0, ran
        return ran

    def spawn(self, *argv, **settings) -> subprocess.Popen:
        """A command in a process of its own, as installed."""
        env = {"PATH": os.environ["PATH"], **self.env, **settings.pop("env", {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
        return subprocess.Popen([sys.executable, "-m", "convsync_cli", *map(str, argv)], env=env, **pipes)

    # -- places -------------------------------------------------------------------

    def worktree(self, name="a", workspace=WS, *, register=True) -> Path:
        """A directory with `.jp/.id`, registered unless told otherwise."""
        path = self.base / name
        (path / ".jp").mkdir(parents=True)
        (path / ".jp" / ".id").write_text(f"{workspace}\n")
        if register:
            self.ok("register", path)
        return path

    def silo(self, workspace=WS) -> Path:
        return self.base / "data" / "jp" / "workspace" / workspace

    @staticmethod
    def store(root) -> Path:
        """The directory that holds `conversations/`: a worktree's `.jp`, or the silo itself."""
        root = Path(root)
        return root / ".jp" if (root / ".jp").is_dir() else root

    def directory(self, root, conversation, *, archived=False) -> Path | None:
        """The one directory of a conversation in a worktree or silo, None if there is none."""
        top = self.store(root) / "conversations" / (".archive" if archived else "")
        for _ in range(3):  # a listing may show both names of one that is renamed meanwhile
            found = [p for p in top.glob(f"{conversation}*") if p.name.partition("-")[0] == str(conversation)]
            if len(found) < 2:
                return found[0] if found else None
        raise AssertionError(f"{len(found)} directories for one id")

    # -- conversations --------------------------------------------------------------

    def write(self, root, conversation, *events, archived=False, slug="", mtime_ns=LONG_AGO, **metadata) -> Path:
        """A conversation as JP writes it into a worktree or silo; over one that is there, in place of it.

        `events` are elements, or texts of questions; `metadata` are fields of its metadata.json.
        """
        top = self.store(root) / "conversations" / (".archive" if archived else "")
        name = f"{conversation}-{slug}" if slug else str(conversation)
        path = self.directory(root, conversation, archived=archived) or top / name
        path.mkdir(parents=True, exist_ok=True)
        fields = {"last_activated_at": "2023-11-14 22:13:20.0"} | metadata
        elements = [event(e) if isinstance(e, str) else e for e in events]
        for file, value in (("metadata.json", fields), ("base_config.json", {}), ("events.json", elements)):
            put(path / file, as_jp(value), mtime_ns)
        return path

    def events(self, root, conversation, *, archived=False):
        """The events of one copy."""
        return json.loads((self.directory(root, conversation, archived=archived) / "events.json").read_bytes())

    def questions(self, root, conversation, *, archived=False):
        """What was asked in one copy, in order."""
        return [e.get("content") for e in self.events(root, conversation, archived=archived)]

    def inventory(self, *roots) -> dict[str, tuple[int, bytes]]:
        """Every file below `roots` with its mtime and bytes: equal inventories mean that nothing was written."""
        tops = [Path(r) for r in roots] or [self.base]
        files = [p for t in tops for p in sorted(t.rglob("*")) if p.is_file() and not p.is_symlink()]
        dirs = [p for t in tops for p in sorted(t.rglob("*")) if p.is_dir()]
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in files} | {
            str(p): (p.stat().st_mtime_ns, b"") for p in dirs
        }

    def quiet(self, *roots):
        """Wait until what was written last counts as quiet: unchanged for 200 ms (R3)."""
        files = [p for r in roots or [self.base] for p in Path(r).rglob("*.json")]
        newest = max((p.stat().st_ctime_ns for p in files), default=0)
        while (left := newest + QUIET_NS - time.time_ns()) > 0:
            time.sleep(left / SECOND)

    # -- JP's lock --------------------------------------------------------------------

    @contextmanager
    def holding(self, conversation, workspace=WS, session="getsid-1"):
        """Hold the lock of a conversation as a running JP does; released as JP does, close first, then unlink."""
        locks = self.silo(workspace) / "locks"
        locks.mkdir(exist_ok=True)
        path = locks / f"jp-c{conversation}.lock"
        with self._locked(path) as file:
            json.dump({"pid": os.getpid(), "session": session, "acquired_at": "2025-01-01T00:00:00+00:00"}, file)
            file.flush()
            yield path
        path.unlink(missing_ok=True)  # who waited for it may have had it, and removed it, by now

    @staticmethod
    def _locked(path):
        """The lock file, held; not one that its last holder removed meanwhile."""
        while True:
            file = open(path, "w+")  # noqa: SIM115  # the caller's, to its end
            fcntl.flock(file, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):
                if os.fstat(file.fileno()).st_ino == path.stat().st_ino:
                    return file
            file.close()


def event(content="hello", at="2023-11-14 22:13:20.0", kind="chat_request", **more):
    """One element of events.json; by default a question."""
    body = {"content": content} if kind == "chat_request" else {}
    return {"timestamp": at, "type": kind} | body | more


def as_jp(value) -> bytes:
    """JSON as JP writes it (contract 4.1)."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def put(path, raw, mtime_ns=None):
    """Replace a file as JP does, by a rename, and give it its time."""
    path = Path(path)
    temp = path.with_name(path.name + ".tmp")
    temp.write_bytes(raw)
    if mtime_ns is not None:
        os.utime(temp, ns=(mtime_ns, mtime_ns))
    temp.rename(path)
