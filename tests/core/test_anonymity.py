"""What is given away names nobody: no home, no user, no secret, no slug, no value of a setting."""

import pytest

from convsync_agent.anonymity import impersonal, without_values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/mei/code/app", "~/code/app"),
        ("in /home/mei, and /home/mei/x", "in ~, and ~/x"),
        ("/home/meiling/x", "/home/meiling/x"),
        ("/srv/homes/mei/x", "~/x"),
        ("/backup/home/mei/x", "/backup/home/USER/x"),
        ("/mnt/mei/code", "/mnt/USER/code"),
        ("/mnt/mei-code/mei.txt", "/mnt/mei-code/mei.txt"),
        ("mei", "mei"),
        (".jp/conversations/17457886043-what-was-said/events.json", ".jp/conversations/17457886043/events.json"),
    ],
)
def test_paths(text, expected):
    """The home is `~` wherever it stands as a whole, the user's name in another path USER; names stay names."""
    assert impersonal(text, ["/home/mei", "/srv/homes/mei/"], "mei") == expected


def test_all_the_way_down():
    """Keys, lists, numbers: everything is gone through, and only text changes."""
    value = {"/home/mei/a": [{"pid": 3, "at": ["/home/mei"]}, None, True], "password": "hunter2hunter2"}

    assert impersonal(value, ["/home/mei"], "mei") == {
        "~/a": [{"pid": 3, "at": ["~"]}, None, True],
        "password": "[redacted:key_value]",
    }


def test_root_is_a_word():
    """The name of the superuser names nobody, and means other things, too; an empty home is none."""
    assert impersonal("/root/x /mnt/root/y", ["/root", "/", ""], "root") == "~/x /mnt/root/y"


@pytest.mark.parametrize(
    "mistake",
    [
        "notify.command = 'SECRET thing' is not allowed; allowed: text",
        "unknown key polcy = 'SECRET; did you'; did you mean policy?",
        "environment CONVSYNC_X: unknown key x = 'SECRET'; allowed: policy",
        "environment CONVSYNC_POLICY: policy = SECRET is set by convsync_policy too",
        "--set: 'SECRET' is not KEY=VALUE; example: --set import.policy=manual",
        "x = 'SECRET a",
    ],
)
def test_mistakes_without_what_was_typed(mistake):
    """The key is told, the value is not: it may be anything."""
    assert "SECRET" in mistake
    assert "SECRET" not in without_values(mistake)
    assert "[value]" in without_values(mistake)
