"""Real JP conversations replayed through a running agent. Skipped, saying so, where they are not on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents import FILES, in_step, status, until

DATA = Path(os.environ.get("CONVSYNC_REAL_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real conversations at {DATA}")]


def steps(case: str) -> list[Path]:
    return sorted((DATA / "derived" / case).iterdir()) if DATA.is_dir() else []


def replay(machine, tree: Path, step: Path) -> set[int]:
    """Put one step of a sequence into a worktree as JP would: rename the directory, then temp + rename per file."""
    ids = set()
    for source in sorted((step / "conversations").rglob("metadata.json")):
        directory = source.parent
        conversation = int(directory.name.partition("-")[0])
        ids.add(conversation)
        top = tree / ".jp" / directory.relative_to(step).parent
        target = top / directory.name
        old = machine.directory(tree, conversation)
        if old is not None and old != target:
            old.rename(target)
        target.mkdir(parents=True, exist_ok=True)
        for name in ("metadata.json", "base_config.json", "events.json"):
            raw = (directory / name).read_bytes() if (directory / name).exists() else None
            if raw is not None and (not (target / name).exists() or (target / name).read_bytes() != raw):
                (target / f"{name}.tmp").write_bytes(raw)
                (target / f"{name}.tmp").rename(target / name)
    return ids


@pytest.mark.parametrize("case", ["grow-and-title", "base-config-only"])
def test_a_real_sequence_is_followed_step_by_step(machine, agent, case):
    """Growth, retitle, an edit of base_config.json alone: after each step the silo has the step's very bytes."""
    tree = machine.worktree("a")
    agent()
    for step in steps(case):
        ids = replay(machine, tree, step)
        for conversation in ids:
            until(lambda c=conversation: in_step(machine, c, tree, machine.silo()), f"{case} {step.name}")
            silo, here = machine.directory(machine.silo(), conversation), machine.directory(tree, conversation)

            assert silo.name == here.name
            assert [(here / f).read_bytes() for f in FILES if (here / f).exists()] == [
                (silo / f).read_bytes() for f in FILES if (silo / f).exists()
            ]
    until(lambda: status(machine)["verdict"] == "in-sync")
    assert 0 == machine.run("verify").code


def test_real_divergence_keeps_both(machine, agent):
    """Two worktrees append different turns: the later one is current, the other is in the history, whole."""
    base, one, two = steps("diverge-append")
    a, b = machine.worktree("a"), machine.worktree("b")
    agent()
    (conversation,) = replay(machine, a, base)
    until(lambda: in_step(machine, conversation, a, machine.silo()))
    replay(machine, b, base)  # equal bytes with other mtimes: nothing to do
    until(lambda: status(machine)["verdict"] == "in-sync")
    replay(machine, a, one)
    until(lambda: in_step(machine, conversation, a, b, machine.silo()))
    replay(machine, b, two)
    until(lambda: in_step(machine, conversation, a, b, machine.silo()))
    lost = next((one / "conversations").rglob("events.json")).read_bytes()
    versions = machine.ok("history", conversation, "--json").json["versions"]
    stream = [v for v in versions if v["unit"] == "stream"]
    out = machine.base / "out"
    machine.ok("restore", conversation, "--version", stream[0]["version"], "--into", out)

    assert lost in [p.read_bytes() for p in out.rglob("events.json")]
    assert machine.directory(a, conversation).joinpath("events.json").read_bytes() != lost


@pytest.mark.slow
def test_a_machine_of_a_thousand(machine, agent):
    """1,000 conversations of real shape with odd entries: the valid ones verified, the odd ones named."""
    out = machine.base / "m"
    command = [sys.executable, DATA / "make_workspace.py", "--out", out, "--conversations", "1000", "--odd", "2"]
    subprocess.run([*command, "--size-scale", "0.2"], check=True, capture_output=True)
    manifest = json.loads((out / "manifest.json").read_text())
    user_data = {"JP_USER_DATA_DIR": str(out / "data/jp")}
    machine.env |= user_data
    os.environ |= user_data
    try:
        machine.ok("register", out / "proj")
        agent()
        told = status(machine)
        receipt = machine.run("verify", "--json").json
    finally:
        del os.environ["JP_USER_DATA_DIR"]
    invalid = {
        int(Path(o["path"]).parts[3].partition("-")[0]) for o in manifest["odd"] if o["note"].startswith("invalid")
    }
    named = {int(e["conversation"][4:]) for e in told["attention"]}
    blamed = {int(p["conversation"][4:]) for p in receipt["problems"]}

    assert invalid <= named
    assert blamed <= named
    assert 1000 <= receipt["conversations"]
    assert told["workspaces"][0]["durable"]["live"] + told["workspaces"][0]["durable"]["archived"] == 1000
