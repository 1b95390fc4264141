"""What is written for systemd and launchd: the reference files are what is rendered, letter for letter."""

from __future__ import annotations

import os
import plistlib
from pathlib import Path

import pytest

from convsync_agent import plist, unit
from convsync_agent.service import Launch

TOP = Path(__file__).parents[2]
LAUNCH = Launch(("/home/jp/.local/bin/convsync", "agent"))
MAC = Launch(("/Users/jp/.local/bin/convsync", "agent"), (), "/Users/jp/Library/Logs/convsync/agent.log")
REFERENCES = {
    "systemd/convsync.service": unit.render(LAUNCH).encode(),
    f"launchd/{plist.LABEL}.plist": plist.render(MAC),
}

# launchd.plist(5), as far as we use it: what is not here is a misspelling.
KEYS = {
    "Label": str,
    "ProgramArguments": list,
    "EnvironmentVariables": dict,
    "RunAtLoad": bool,
    "KeepAlive": dict,
    "ThrottleInterval": int,
    "ProcessType": str,
    "Umask": int,
    "ExitTimeOut": int,
    "LimitLoadToSessionType": list,
    "StandardErrorPath": str,
}


@pytest.mark.skipif(not (TOP / "systemd").is_dir(), reason="the reference files are not beside the tests")
@pytest.mark.parametrize("name", REFERENCES)
def test_the_reference_is_what_is_rendered(name):
    """CONVSYNC_UPDATE_DOCS=1 writes it."""
    if "CONVSYNC_UPDATE_DOCS" in os.environ:
        (TOP / name).write_bytes(REFERENCES[name])

    assert (TOP / name).read_bytes() == REFERENCES[name]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("/usr/bin/convsync", "/usr/bin/convsync"),
        ("/home/a b/convsync", '"/home/a b/convsync"'),
        ("100%", '"100%%"'),
        ('say "x"', '"say \\"x\\""'),
        ("it's", '"it\'s"'),
        ("a\\b", '"a\\\\b"'),
        ("two\nlines", '"two\\nlines"'),
        ("bell\x07", '"bell\\x07"'),
        ("$HOME", "$HOME"),
        ("", '""'),
    ],
)
def test_a_word_means_itself(word, wanted):
    """Whatever is in a path or a variable is not obeyed by systemd. (`$` is not: the command has a colon before it.)"""
    assert unit.quoted(word) == wanted


def test_variables_are_lines_of_the_unit():
    """A service does not see those of a shell; without any there is no line about them."""
    text = unit.render(Launch(("/c", "agent"), (("A", "1"), ("B", "x y"))))

    assert '\nEnvironment=A=1\nEnvironment="B=x y"\n' in text
    assert "Environment" not in unit.render(LAUNCH)


def test_the_unit_is_one_of_ours_by_its_first_line():
    """An upgrade writes over what begins so, and over nothing else."""
    assert unit.render(LAUNCH).splitlines()[0] == unit.MARK


def test_the_property_list_has_known_keys_of_their_types():
    """What launchd does not know it ignores, so a misspelling would never be told."""
    found = plistlib.loads(plist.render(MAC))

    assert {k: type(v) for k, v in found.items()} == KEYS
    assert found["Label"] == plist.LABEL
    assert found["KeepAlive"] == {"SuccessfulExit": False}  # a person who stops it means it
    assert found["ProcessType"] == "Standard"
    assert found["Umask"] == 63
    assert set(found["LimitLoadToSessionType"]) <= {"Aqua", "Background", "LoginWindow", "StandardIO", "System"}
    assert all(isinstance(word, str) for word in found["ProgramArguments"])
    assert os.path.isabs(found["ProgramArguments"][0])
    assert os.path.isabs(found["StandardErrorPath"])


@pytest.mark.parametrize(
    ("raw", "path"),
    [(plist.render(MAC), MAC.log), (b"", ""), (b"no list", ""), (b"<plist><dict/></plist>", "")],
)
def test_the_log_of_a_property_list(raw, path):
    """Where the log of an installed service is, also when the file is none of ours."""
    assert plist.log_in(raw) == path
