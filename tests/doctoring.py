"""Asking `doctor`, in process, and doing what it says."""

from __future__ import annotations

import shlex
import subprocess

from machine import OF_THE_HOST


def doctor(machine, *argv):
    ran = machine.run("doctor", "--json", *argv)
    assert ran.err == ""
    assert ran.code == (0 if ran.json["ok"] else 1)
    assert all((c["fix"] is None) == (c["level"] == "ok") for c in ran.json["checks"])
    return ran.json


def troubles(machine, *argv):
    """(level, code) of what is not ok, but that no agent runs, and what the host has brought."""
    checks = [c for c in doctor(machine, *argv)["checks"] if c["code"] not in OF_THE_HOST]
    found = [(c["level"], c["code"]) for c in checks if c["level"] != "ok"]
    assert ("warn", "agent") in found
    found.remove(("warn", "agent"))
    return found


def check(machine, code):
    """The one finding of a code that is not ok."""
    (found,) = [c for c in doctor(machine)["checks"] if c["code"] == code and c["level"] != "ok"]
    return found


def typed(machine, fix):
    """Do what it says."""
    argv = [w for w in shlex.split(fix, comments=True) if w]
    if argv[0] == "convsync":
        return machine.ok(*argv[1:])
    return subprocess.run(argv, check=True)
