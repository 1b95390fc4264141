"""A checkout is not an edit: which newer copies count, and what becomes of those that do not (design 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.model import Guard, Policy, Unit
from convsync_agent.plan import Behind
from convsync_agent.reconcile import reconcile
from notation import ID, S, W, X, base, git_says, said, snapshots, stream_digest

KNOWN = {S: "ab m", W: "ab m", X: "ab m"}
LINEAGE = frozenset({(ID, Unit.STREAM, stream_digest("c"))})
EDIT = ["update stream W>S keep"]
WAIT = ["defer unstable", "keep stream W"]
BEHIND = ["behind W", "keep stream W"]

# name, worktree copy, agreed before, facts, plan
ROWS = [
    ("an old content that git wrote is behind", "c@9 m@5", KNOWN, {"lineage": LINEAGE, "W": "wrote"}, BEHIND),
    ("a beginning of the durable stream is suspect, too", "a@9 m@5", KNOWN, {"W": "wrote"}, ["behind W"]),
    ("so is one that was activated earlier", "b@9 m@5", KNOWN, {"earlier": frozenset({(ID, W)}), "W": "wrote"}, BEHIND),
    ("so is any at first sight", "b@9 m@5", {}, {"W": "wrote"}, BEHIND),
    ("any other content is an edit, whatever git says", "b@9 m@5", KNOWN, {"W": "wrote"}, EDIT),
    ("what git did not write is an edit", "c@9 m@5", KNOWN, {"lineage": LINEAGE, "W": "edit"}, EDIT),
    ("without git it is an edit", "c@9 m@5", KNOWN, {"lineage": LINEAGE}, EDIT),
    ("while git is at work it waits", "c@9 m@5", KNOWN, {"lineage": LINEAGE, "W": "wait"}, WAIT),
    ("what contains the durable content is no suspect", "abc@9 m@5", {}, {"W": "wrote"}, ["update stream W>S"]),
    ("an older file loses by its time, git or not", "a@3 m@5", {}, {"W": "wrote"}, ["update stream S>W"]),
]  # fmt: skip


def plan_of(copy, agreed, facts, *, silo="ab@5 m@5", x="", policy=None):
    facts = dict(facts)
    git = {name: facts.pop(name) for name in ("W", "X") if name in facts}
    shots = snapshots(silo, copy, x)
    return reconcile(base(shots, agreed, git=git_says(**git), **facts), shots, policy or Policy())


@pytest.mark.parametrize(("copy", "agreed", "facts", "plan"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_what_counts_as_an_edit(copy, agreed, facts, plan):
    """The row's sentence."""
    assert sorted(plan) == sorted(said(plan_of(copy, agreed, facts)))


def test_with_policy_mtime_nothing_is_stale():
    """JP's rule alone."""
    facts = {"lineage": LINEAGE, "W": "wrote"}
    assert EDIT == said(plan_of("c@9 m@5", KNOWN, facts, policy=Policy(guard=Guard.MTIME)))


def test_the_rest_reconcile_among_themselves():
    """The stale copy is neither source nor target; another edit goes on without it."""
    plan = plan_of("a@20 m@5", KNOWN, {"W": "wrote"}, x="abc@9 m@5")
    assert ["update stream X>S", "behind W"] == said(plan)
    assert plan.behind == (Behind(ID, W, Unit.STREAM, stream_digest("a")),)


REMEMBERED = {(ID, W, Unit.STREAM): stream_digest("a")}


@pytest.mark.parametrize("copy", ["a@9 m@5", "a@50 m@5", "a@1 m@5"])
def test_it_is_known_by_its_bytes(copy):
    """Whatever git says now, and whatever its mtime; also when the durable copy has moved on."""
    plan = plan_of(copy, {S: "abc m", W: "a m"}, {"behind": REMEMBERED}, silo="abc@7 m@5")
    assert ["behind W"] == said(plan)


def test_an_edit_of_what_was_behind_is_a_conflict():
    """It builds on less than the durable copy has: a person has to hear of it."""
    plan = plan_of("ad@9 m@5", {S: "ab m", W: "a m"}, {"behind": REMEMBERED})
    assert ["update stream W>S keep conflict"] == said(plan)


def test_it_is_over_when_it_equals_the_durable_copy():
    """Equal bytes are in step."""
    assert [] == said(plan_of("a@9 m@5", {S: "a m", W: "a m"}, {"behind": REMEMBERED}, silo="a@5 m@5"))


def test_an_import_prefers_what_git_did_not_write():
    """Among copies that do not contain each other; with git's alone it takes git's."""
    assert ["import X>S"] == said(plan_of("b@9 m@5", {}, {"W": "wrote", "X": "edit"}, silo="", x="c@5 m@9"))[:1]
    assert "import W" in said(plan_of("b@9 m@5", {}, {"W": "wrote"}, silo=""))[0]


CONTENT = st.sampled_from(["a", "ab", "abc", "b", "c"])


@given(
    *(st.builds("{}@{} m@5".format, CONTENT, st.integers(1, 9)) for _ in range(3)),
    st.dictionaries(st.sampled_from("WX"), st.sampled_from(["wrote", "edit", "wait"])),
    st.booleans(),
)
def test_no_durable_content_is_replaced_by_what_git_wrote_at_first_sight(silo, w, x, git, settled):
    """Unless it contains it. Law for any picture, any verdicts."""
    shots = snapshots(silo, w, x)
    agreed = {S: f"{silo[0]} m"} if settled else {}
    known = base(shots, agreed, git=git_says(**git))
    names = {"W": W, "X": X}
    for action in reconcile(known, shots, Policy()).actions:
        if getattr(action, "target", None) is None or not getattr(action.target, "root", W).is_silo:
            continue
        wrote = {names[n] for n, v in git.items() if v == "wrote"}
        if action.source.root in wrote:
            assert known.covers(action.unit, action.source.unit(action.unit), action.target.unit(action.unit))
