"""TARGET: every form of a name, every keyword, and what each refusal says."""

from __future__ import annotations

import pytest

from convsync_agent.errors import ConvsyncError, NotFound, UsageProblem
from convsync_cli.context import Context
from convsync_cli.target import Target, resolve_many, resolve_target

OLD, NEW, OTHER, STORED = 17000000001, 17000000002, 17512345678, 16900000000


@pytest.fixture
def filled(machine):
    """Four conversations: one pinned, one activated last, one archived; and a second workspace with one more."""
    a = machine.worktree("a", register=False)
    machine.write(a, OLD, "one", slug="secret-plan", pinned_at="2024-01-01 00:00:00.0")
    machine.write(a, NEW, "two", last_activated_at="2024-06-01 00:00:00.5", pinned_at="2023-01-01 00:00:00.0")
    machine.write(a, OTHER, "three")
    machine.write(a, STORED, "four", archived=True, archived_at="2024-01-01 00:00:00.0")
    machine.ok("register", a)
    b = machine.worktree("b", "zzzz9", register=False)
    machine.write(b, OLD, "the same id elsewhere")
    machine.ok("register", b)
    return machine


@pytest.mark.parametrize(
    ("text", "conversation"),
    [
        (f"jp-c{NEW}", NEW),
        (f"{NEW}", NEW),
        (f"jp-c{NEW}-abcde", NEW),
        ("175", OTHER),
        ("jp-c175", OTHER),
        ("  175 ", OTHER),
        ("169", STORED),
        ("last", NEW),
        ("recent", NEW),
        ("r", NEW),
        ("newest", OTHER),
        ("n", OTHER),
        ("last-created", OTHER),
        ("pinned", OLD),
        ("p", OLD),
        ("archived", STORED),
        ("a", STORED),
    ],
)
@pytest.mark.usefixtures("filled")
def test_forms(text, conversation):
    """An id in any form, a unique beginning of one, and a keyword all mean one conversation."""
    assert resolve_target(Context(), text) == Target("abcde", conversation)


@pytest.mark.parametrize(
    ("text", "error", "code", "words"),
    [
        ("jp-c99", NotFound, 3, ("jp-c99",)),
        ("nosuch", NotFound, 3, ("nosuch",)),
        (f"jp-c{NEW}-zzzz9", NotFound, 3, (str(NEW),)),
        ("1700", UsageProblem, 2, (f"jp-c{OLD}", f"jp-c{NEW}")),
        ("jp-c", UsageProblem, 2, (f"jp-c{STORED}", f"jp-c{OTHER}")),
        (str(OLD), UsageProblem, 2, (f"jp-c{OLD}-abcde", f"jp-c{OLD}-zzzz9")),
        *[(ask, UsageProblem, 2, ("<id>", "last", "$JP_SESSION")) for ask in ("", "?", "?p", "?s", "?a", "?archived")],
        ("?x", NotFound, 3, ("?x", "?s")),
        ("+x", NotFound, 3, ("+x", "+live")),
    ],
)
@pytest.mark.usefixtures("filled")
def test_refusals(text, error, code, words):
    """What means nothing is exit 3, what means several or needs a terminal is exit 2, and says what to type."""
    with pytest.raises(error) as caught:
        resolve_target(Context(), text)

    said = f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == code
    assert all(word in said for word in words)


def test_a_directory_name_is_not_repeated(filled):
    """A slug is chat text: an unknown target that looks like a directory's name stays out of the message."""
    ran = filled.run("show", "17000000009-secret-plan")

    assert ran.code == 3
    assert "secret" not in ran.err + ran.out


def test_one_id_in_two_workspaces(filled, monkeypatch):
    """Inside a worktree its own workspace is meant; elsewhere the full id says which."""
    monkeypatch.chdir(filled.base / "b" / ".jp")

    assert resolve_target(Context(), str(OLD)) == Target("zzzz9", OLD)
    assert resolve_target(Context(), f"jp-c{OLD}-abcde") == Target("abcde", OLD)


@pytest.mark.usefixtures("filled")
def test_many():
    """Several ids come in the order given, each once."""
    texts = [str(OTHER), f"jp-c{NEW}", "175", str(NEW)]

    assert [t.conversation for t in resolve_many(Context(), texts)] == [OTHER, NEW]


def test_default_of_no_target(filled, monkeypatch):
    """Without a target `target.default` decides; `ask` needs a terminal."""
    monkeypatch.setenv("CONVSYNC_TARGET__DEFAULT", "newest")

    assert filled.ok("path", "--json").json["path"].endswith(f"/{OTHER}")


@pytest.mark.parametrize(("text", "code"), [("last", 3), ("17", 3), ("?", 2)])
def test_nothing_there(machine, text, code):
    """A registered worktree without conversations has none to name."""
    machine.worktree()

    with pytest.raises(ConvsyncError) as caught:
        resolve_target(Context(), text)

    assert caught.value.exit_code == code


@pytest.mark.parametrize("command", ["show", "path", "history", "restore", "accept"])
def test_every_command_takes_targets(filled, command):
    """`nosuch` is exit 3 in every command that takes a TARGET, `last` is understood."""
    assert filled.run(command, "nosuch").code == 3
    assert "no such conversation" not in filled.run(command, "last").err


def test_nothing_registered(machine):
    """Without a registration there is nothing to find, and the hint says how to begin."""
    ran = machine.run("show", "last")

    assert ran.code == 3
    assert "convsync register" in ran.err
