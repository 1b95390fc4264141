"""What is wrong with a machine, by facts alone: a table for each subject. What is not ok says what to type."""

import pytest

from convsync_agent.condition import Link, SiloSeen, Survey, TreeSeen, judge_silo, judge_tree
from convsync_agent.diagnosis import (
    Holding,
    Place,
    Standing,
    Watching,
    judge_agent,
    judge_attention,
    judge_clock,
    judge_config,
    judge_deaf,
    judge_history,
    judge_holding,
    judge_place,
    judge_service,
    judge_state,
    judge_watching,
)
from convsync_agent.finding import Code, Finding, Level, amount, duration, quoted, tally
from convsync_agent.service import ServiceState

NOW = 1_800_000_000_000
PATH = "/home/me/it"


def said(findings: list[Finding]) -> list[str]:
    """`level code` of each; whatever is not ok has something to type, and no ok has."""
    assert all((f.fix is None) == (f.level is Level.OK) for f in findings)
    return [f"{f.level} {f.code}" for f in findings]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (Place("it", PATH), ["ok places"]),
        (Place("it", PATH, fault="not allowed there"), ["error places"]),
        (Place("it", PATH, there=True), ["ok places"]),
        (Place("it", PATH, there=True, mode=0o750), ["warn permissions"]),
        (Place("it", PATH, there=True, mode=0o777, loose=3), ["warn permissions", "warn permissions"]),
        (Place("it", PATH, there=True, foreign=True), ["error places"]),
        (Place("it", PATH, there=True, fault="No space left on device"), ["error places"]),
    ],
)
def test_a_directory_of_ours(place, expected):
    """It is there or can be made, private, and can be written."""
    assert said(judge_place(place)) == expected


@pytest.mark.parametrize(
    ("jp", "expected"),
    [
        (Holding(PATH), ["ok jp-data"]),
        (Holding(PATH, there=True), ["ok jp-data"]),
        (Holding(PATH, there=True, directory=False), ["error jp-data"]),
        (Holding(PATH, there=True, closed=True), ["error jp-data"]),
        (Holding(PATH, there=True, foreign=True, open_to_others=True), ["warn jp-data", "warn permissions"]),
        (Holding(PATH, there=True, elsewhere=("/other",)), ["warn jp-data"]),
    ],
)
def test_the_user_data_of_jp(jp, expected):
    """Readable and writable, nobody else's, and the one that the workspaces were registered with."""
    assert said(judge_holding(jp)) == expected


USE = Watching(3, 128, 41, 1000, "fs.inotify.max_user_instances", "fs.inotify.max_user_watches")


@pytest.mark.parametrize(
    ("use", "rooms", "own", "running", "what", "fix"),
    [
        (USE, 10, 0, False, "inotify: 3 of 128 instances, 41 of 1000 watches", None),
        (USE, 950, 0, False, "1000 watches are allowed, 1007 needed", "fs.inotify.max_user_watches=524288"),
        (USE._replace(watches=1000), 950, 990, True, "1000 of 1000 watches", None),
        (USE._replace(watches=1000), 300_000, 990, True, "300026 needed", "fs.inotify.max_user_watches=1048576"),
        (USE._replace(instances=128), 1, 0, False, "all of 128 inotify", "fs.inotify.max_user_instances=1024"),
        (USE._replace(instances=128), 1, 30, True, "128 of 128 instances", None),
        (Watching(0, 0, 0, 0), 9, 0, False, "no limit", None),
    ],
)
def test_inotify(use, rooms, own, running, what, fix):
    """What is needed is what others have, and the more of what the agent has and what it will want."""
    (found,) = judge_watching(use, rooms=rooms, roots=2, own=own, running=running)

    assert what in found.what
    assert found.fix == (f"sudo sysctl {fix}" if fix else None)


@pytest.mark.parametrize(
    ("now", "noted", "started", "ahead", "expected"),
    [
        (NOW, NOW - 1, NOW - 1, [], ["ok clock"]),
        (NOW, NOW + 299_000, 0, [], ["ok clock"]),
        (NOW, NOW + 301_000, 0, [], ["warn clock"]),
        (NOW, 0, NOW + 3_600_000, [], ["warn clock"]),
        (86_400_000, NOW, NOW, [], ["error clock"]),
        (NOW, 0, 0, [7, 5], ["warn clock"]),
    ],
)
def test_the_clock(now, noted, started, ahead, expected):
    """It has not gone back behind what was written down, and no conversation is ahead of it."""
    assert said(judge_clock(now, noted_ms=noted, started_ms=started, ahead=ahead)) == expected


def service(**changes) -> ServiceState:
    facts = {"manager": "systemd", "installed": True, "enabled": True, "active": "active", "path": PATH, "linger": True}
    return ServiceState(**{**facts, **changes})


@pytest.mark.parametrize(
    ("state", "running", "registered", "expected"),
    [
        (service(), True, 1, ["ok service"]),
        (service(manager=None, installed=False), False, 1, ["ok service"]),
        (service(installed=False), True, 1, ["warn service"]),
        (service(linger=False), True, 1, ["warn service"]),
        (service(linger=None), True, 1, ["ok service"]),
        (service(enabled=False), True, 1, ["warn service"]),
        (service(active="inactive"), False, 1, ["error service"]),
        (service(active="inactive"), False, 0, ["ok service"]),
        (service(active="inactive"), True, 1, ["warn service"]),
        (service(active="failed"), True, 1, ["error service"]),
        (service(active="activating"), False, 1, ["ok service"]),
        (None, True, 1, ["warn service"]),
    ],
)
def test_the_service(state, running, registered, expected):
    """Installed, enabled, running, and lingering where that is a word."""
    assert said(judge_service(state, running=running, registered=registered)) == expected


def told(**changes):
    return {"agent": {"pid": 9, "version": "1", "watches": 5, "last_error": None, **changes}}


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        (Standing(False, None, None, "1", 0, NOW), ["ok agent"]),
        (Standing(False, None, None, "1", 2, NOW), ["warn agent"]),
        (Standing(True, 9, None, "1", 2, NOW), ["error agent"]),
        (Standing(True, 9, told(), "1", 2, NOW), ["ok agent"]),
        (Standing(True, 9, told(version="0"), "1", 2, NOW), ["warn versions"]),
        (Standing(True, 9, told(last_error={"code": "io", "at": NOW - 60_000}), "1", 2, NOW), ["warn agent"]),
        (Standing(True, 9, told(last_error={"code": "io", "at": NOW - 2 * 86_400_000}), "1", 2, NOW), ["ok agent"]),
    ],
)
@pytest.mark.parametrize("installed", [True, False])
def test_the_agent(agent, installed, expected):
    """It runs, answers, is of this version, and met no trouble lately; what to type depends on who keeps it."""
    found = judge_agent(agent, installed=installed)

    assert said(found) == expected
    assert all(("service" in f.fix) == installed for f in found if f.fix and f.fix != "convsync status")


def test_what_cannot_be_watched_is_named_with_the_limit_that_is_met():
    """ENOSPC is the number of watches, EMFILE that of instances; anything else is a matter of permissions."""
    roots = [{"root": "/a", "code": "ENOSPC"}, {"root": "/b", "code": "EMFILE"}, {"root": "/c", "code": "EACCES"}]
    fixes = [f.fix for f in judge_deaf({"deaf": roots}, {})]

    assert ["max_user_watches" in fixes[0], "max_user_instances" in fixes[1], "/c" in fixes[2]] == [True] * 3
    assert judge_deaf(None, {}) == []


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], "ok"),
        (["behind", "removed", "missing"], "ok"),
        (["held", "held", "conflict"], "warn"),
        (["held", "no-space"], "error"),
    ],
)
def test_attention(kinds, expected):
    """What `status` calls attention is a warning, what could not be written an error; the rest is no trouble."""
    (found,) = judge_attention(kinds)

    assert found.level == expected
    assert expected == "ok" or "held" in found.what


def test_settings_state_and_history():
    """Every mistake is a finding; a damaged file names the way out; damaged versions name a conversation."""
    assert said(judge_config(["a", "b"], [], PATH, 0)) == ["error config", "error config"]
    assert said(judge_config([], ["others"], PATH, 0)) == ["warn config"]
    assert said(judge_config([], [], PATH, 2)) == ["ok config"]
    assert said(judge_state(["row 3 missing"], PATH, None)) == ["error state"]
    assert said(judge_state([], PATH, None)) + said(judge_state([], PATH, (1, 2))) == ["ok state", "ok state"]
    assert said(judge_history((3, 2, 1), [], "1 kB", PATH)) == ["ok history"]
    assert said(judge_history((3, 2, 1), [17], "1 kB", PATH)) == ["warn history"]


SILO = SiloSeen("abcde", "/data/x-abcde", there=True, survey=Survey(live=2))


@pytest.mark.parametrize(
    ("silo", "expected"),
    [
        (SILO, ["ok silo"]),
        (SILO._replace(there=False), ["error silo"]),
        (SILO._replace(named=False), ["error silo"]),
        (SILO._replace(siblings=("/data/y-abcde",)), ["warn silo"]),
        (SILO._replace(link=Link.ABSENT), ["ok silo"]),
        (SILO._replace(link=Link.DANGLING), ["ok silo", "warn storage-link"]),
        (SILO._replace(link=Link.ASTRAY), ["ok silo", "warn storage-link"]),
        (SILO._replace(link=Link.NO_LINK), ["ok silo", "error storage-link"]),
        (SILO._replace(survey=Survey(fault="Permission denied")), ["error silo"]),
        (SILO._replace(survey=Survey(partition="absent")), ["error silo"]),
        (SILO._replace(survey=Survey(partition="link")), ["error silo"]),
        (SILO._replace(survey=Survey(doubled=(17,), odd=(18, 19))), ["warn silo", "warn silo"]),
        (SILO._replace(survey=Survey(closed=(17,), foreign=(17,))), ["error permissions", "warn permissions"]),
        (SILO._replace(survey=Survey(orphans=("/data/x-abcde/locks/a.lock",))), ["ok silo", "warn locks"]),
    ],
)
def test_a_silo(silo, expected):
    """There, found by JP, alone, whole, ours, its link leading to a worktree."""
    assert said(judge_silo(silo)) == expected


TREE = TreeSeen("/code/a", "abcde", there=True, found="abcde")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (TREE, ["ok worktree"]),
        (TREE._replace(ignored=True), ["ok worktree"]),
        (TREE._replace(there=False), ["warn worktree"]),
        (TREE._replace(found=None), ["error worktree"]),
        (TREE._replace(found="zzzzz"), ["warn worktree"]),
        (TREE._replace(paused=True), ["warn worktree"]),
        (TREE._replace(survey=Survey(partition="absent")), ["ok worktree"]),
        (TREE._replace(survey=Survey(partition="link")), ["error worktree"]),
        (TREE._replace(survey=Survey(partition="file")), ["error worktree"]),
        (TREE._replace(found=None, survey=Survey(fault="Permission denied")), ["error worktree"]),
        (TREE._replace(survey=Survey(orphans=("/code/a/.jp/locks/a.lock",))), ["warn locks"]),
    ],
)
def test_a_worktree(tree, expected):
    """There, of its workspace, with real directories that can be read."""
    assert said(judge_tree(tree)) == expected


def test_words():
    """Numbers for people, paths for a shell, findings counted."""
    assert [amount(n) for n in (0, 999, 1000, 45_600_000, 123_000_000_000_000_000)] == [
        "0 B", "999 B", "1.0 kB", "45.6 MB", "123000 TB",
    ]  # fmt: skip
    assert [duration(n) for n in (1, 100, 2_000_000_000)] == ["1 ns", "100 ns", "2 s"]
    assert [quoted(p) for p in ("/a/b-c.d", "/a b", "it's")] == ["/a/b-c.d", "'/a b'", "'it'\"'\"'s'"]
    assert tally([Finding(level, Code.CLOCK, "") for level in Level]) == (1, 1)
