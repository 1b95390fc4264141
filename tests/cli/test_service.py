"""`service` where no manager answers, and with launchd's commands: which of them, and what is written.

launchd does not run here, so a script stands for its command line. What systemd does is tests/system/test_service.py.
"""

from __future__ import annotations

import os
import plistlib
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from convsync_agent import __version__, plist, program, supervisor
from terminal import everything

LAUNCHCTL = """#!/bin/sh
# Knows one agent: it is loaded, or it is not.
loaded={loaded}
echo "$@" >>{calls}
case "$1 $2" in
  "print gui/{uid}") exit 0 ;;
  print\\ *) [ -e $loaded ] && printf '\\tstate = running\\n\\tpid = 4711\\n' || exit 113 ;;
  bootstrap\\ *) [ -e "$3" ] && touch $loaded ;;
  bootout\\ *) rm $loaded 2>/dev/null || exit 3 ;;
  print-disabled\\ *) echo '"{label}" => enabled' ;;
esac
"""


pytestmark = pytest.mark.usefixtures("no_bus")


@pytest.fixture
def mac(machine, monkeypatch):
    """Its calls of launchctl so far, all but the looking."""
    tools = machine.base / "tools"
    tools.mkdir()
    calls = tools / "calls"
    calls.touch()
    script = tools / "launchctl"
    script.write_text(LAUNCHCTL.format(loaded=tools / "loaded", calls=calls, uid=os.getuid(), label=plist.LABEL))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")

    def told():
        lines = [line.split()[0] for line in calls.read_text().splitlines()]
        calls.write_text("")
        return [word for word in lines if not word.startswith("print")]

    return told


@pytest.mark.parametrize("verb", ["install", "uninstall", "start", "stop", "restart", "status", "logs"])
def test_without_a_manager_the_command_to_run_is_said(machine, verb):
    """Exit 4, nothing is written, and a person knows what to type instead."""
    before = machine.inventory()

    ran = machine.run("service", verb, "--json")

    assert ran.code == 4
    assert ran.json["error"]["code"] == "no-manager"
    assert "convsync agent" in ran.json["error"]["hint"]
    assert machine.inventory() == before


def test_the_state_is_plain_data_without_a_manager(machine):
    """What `doctor` asks: a unit that lies there is told, whoever would run it."""
    found = supervisor.state()
    assert (found.manager, found.installed, found.enabled, found.active, found.linger) == (
        None, False, None, "unknown", None,
    )  # fmt: skip
    unit = Path(found.path)
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert supervisor.state().installed


def test_launchd_from_install_to_uninstall(machine, mac):
    """The property list is written and taken up; done again nothing happens; out and in again for another one."""
    for verb in ("start", "stop", "restart", "logs"):
        assert machine.run("service", verb).code == 3
    path = machine.home / "Library/LaunchAgents" / f"{plist.LABEL}.plist"
    mac()

    done = machine.ok("service", "install", "--now", "--json").json
    assert (done["manager"], done["path"], done["changed"], done["action"]) == ("launchd", str(path), True, "started")
    assert mac() == ["enable", "enable", "bootstrap"]
    found = plistlib.loads(path.read_bytes())
    assert found["EnvironmentVariables"]["XDG_DATA_HOME"] == os.environ["XDG_DATA_HOME"]
    assert Path(found["StandardErrorPath"]).parent.is_dir()

    assert machine.ok("service", "install", "--json").json["changed"] is False
    assert mac() == ["enable"]
    assert machine.ok("--set", "log.level=debug", "service", "install", "--json").json["action"] == "restarted"
    assert mac() == ["enable", "bootout", "enable", "bootstrap"]
    said = machine.ok("service", "status", "--json").json
    assert (said["active"], said["pid"], said["installed"], said["enabled"]) == ("active", 4711, True, True)
    machine.ok("service", "stop")
    machine.ok("service", "start")
    assert mac() == ["bootout", "enable", "bootstrap"]

    Path(found["StandardErrorPath"]).write_text("one\ntwo\n")
    assert machine.ok("service", "logs", "-n", "1", "--json").json["lines"] == ["two"]
    assert machine.ok("service", "uninstall", "--json").json == {"schema": 1, "removed": str(path)}
    assert mac() == ["bootout"]
    assert not path.exists()
    assert machine.ok("service", "uninstall", "--json").json == {"schema": 1, "removed": None}


def test_what_a_person_wrote_is_never_written_over(machine, mac):
    """A unit without our mark stays, installed or uninstalled."""
    path = machine.home / "Library/LaunchAgents" / f"{plist.LABEL}.plist"
    path.parent.mkdir(parents=True)
    path.write_bytes(plistlib.dumps({"Label": "mine"}))
    before = path.read_bytes()

    assert machine.run("service", "install").code == 4
    assert machine.run("service", "uninstall").code == 4
    assert path.read_bytes() == before


def test_a_mistake_in_the_settings_is_told_before_anything_is_written(machine, mac):
    """Exit 2, and no unit that would fail at every login."""
    assert machine.run("service", "install", "--set", "colour=1").code == 2
    assert machine.run("service", "install", "--config", machine.base / "nowhere.toml").code == 2
    assert not (machine.home / "Library").exists()


# -- how it is run again ---------------------------------------------------------------


ASK = "from convsync_agent import program; print(*program.executable(), sep='\\n')"


def found_by(machine, *argv):
    """What a process that was started so takes for its own command."""
    env = {"HOME": str(machine.home), "PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()


def test_the_path_that_lasts_is_preferred(machine):
    """With pipx and uv it is a link, for they make the environment behind it anew."""
    behind, link = machine.base / "venv/bin/convsync", machine.home / ".local/bin/convsync"
    for path in (behind, link):
        path.parent.mkdir(parents=True)
    behind.write_text(f"#!{sys.executable}\n{ASK}")
    behind.chmod(0o755)
    assert found_by(machine, behind) == [str(behind)]
    link.symlink_to(behind)
    assert found_by(machine, behind) == found_by(machine, link) == [str(link)]
    link.unlink()
    link.write_text("#!/bin/sh\n# another one\n")
    link.chmod(0o755)
    assert found_by(machine, behind) == [str(behind)]


def test_without_an_executable_the_interpreter_is_asked(machine):
    """The last resort: `python -m`."""
    alone = machine.base / "python"
    alone.symlink_to(sys.executable)
    assert found_by(machine, alone, "-c", ASK) == [str(alone), "-m", "convsync_cli"]


def test_what_goes_along_into_the_unit(machine):
    """Places and settings; nothing of one terminal or one login, nothing relative that would mean another place."""
    env = {
        "CONVSYNC_STATE_DIR": "state",
        "CONVSYNC_IMPORT__POLICY": "manual",
        "CONVSYNC_CONVERSATION": "jp-c1",
        "CONVSYNC_DEMO_DATA": "/d",
        "XDG_DATA_HOME": "/data",
        "XDG_CONFIG_HOME": "relative",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "XDG_SESSION_ID": "3",
        "JP_USER_DATA_DIR": "/jp",
        "JP_EDITOR": "vi",
        "PATH": "/bin",
    }

    assert dict(program.variables(env)) == {
        "CONVSYNC_STATE_DIR": os.path.join(os.getcwd(), "state"),
        "CONVSYNC_IMPORT__POLICY": "manual",
        "XDG_DATA_HOME": "/data",
        "JP_USER_DATA_DIR": "/jp",
    }


def test_what_no_unit_can_hold_is_refused(machine, mac, monkeypatch):
    """A path that is no text: exit 2, and the variable is named."""
    monkeypatch.setenv("CONVSYNC_DATA_DIR", "/\udcff")

    ran = machine.run("service", "install")

    assert ran.code == 2
    assert "CONVSYNC_DATA_DIR" in ran.err


def test_the_version_is_the_one_of_this_program(machine, mac):
    """Told beside the agent's, so that a person sees an agent from before an upgrade."""
    found = machine.ok("service", "status", "--json").json
    assert (found["version"], found["agent_version"], found["agent_pid"]) == (__version__, None, None)


# -- without a login -------------------------------------------------------------------


@pytest.fixture
def loginctl(machine, monkeypatch):
    """Stands for logind, which needs a whole boot: a user whose services end with the last login."""
    tools = machine.base / "tools"
    tools.mkdir()
    asked = tools / "asked"
    script = tools / "loginctl"
    body = f'show-user) echo no ;; *) echo "$@" >{asked}; exit $(cat {tools}/code) ;;'
    script.write_text(f'#!/bin/sh\ncase "$1" in {body} esac\n')
    script.chmod(0o755)
    (tools / "code").write_text("0")
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    return tools


def offer(answer: bytes | None) -> str:
    """What a person sees at the end of `install`, and answers."""
    script = (
        "from convsync_agent import systemd; from convsync_agent.service import ServiceState;"
        "from convsync_cli.commands.service import _offer_linger;"
        "_offer_linger(ServiceState('systemd', True, True, 'active', '/u', systemd.linger()))"
    )
    if answer is None:
        return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    mine, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", script], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    text = everything(mine, answer)
    assert process.wait(120) == 0
    return text


def test_lingering_is_explained_and_offered(loginctl):
    """On a terminal it is asked for and done; elsewhere it is only said how."""
    assert "loginctl enable-linger" in offer(None)
    assert not (loginctl / "asked").exists()
    offer(b"n")
    assert not (loginctl / "asked").exists()
    assert "runs without a login" in offer(b"y")
    assert "enable-linger" in (loginctl / "asked").read_text()
    (loginctl / "code").write_text("1")
    assert "sudo loginctl enable-linger" in offer(b"y")
