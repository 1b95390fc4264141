"""What is logged, in which form, and what never is."""

import io
import json
import logging
import os
import re
import subprocess
import sys

import pytest

from convsync_agent import logs

SECRET = "sk-" + "Ab3dE6gH9jK2mN5pQ8sT1vW4"
SLUG = "17457886043-what-i-told-nobody"


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch):
    """Logging belongs to the process: each test puts back what it found."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    root = logging.getLogger()
    sink, level = logs._sink, root.level
    yield
    logs._sink = sink
    root.handlers[:] = [handler for handler in root.handlers if handler.get_name() != "convsync"]
    root.setLevel(level)


@pytest.fixture(name="log")
def _log():
    """Sets logging up and gives what was written since."""

    def start(level="debug", **how):
        stream = io.StringIO()
        logs.setup(level, stream=stream, **how)
        root = logging.getLogger()  # pytest's own handlers are stricter than ours
        root.handlers[:] = [handler for handler in root.handlers if handler.get_name() == "convsync"]
        return stream

    return start


def documents(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(path=f"/r/conversations/{SLUG}/events.json"):
    hidden_local = "LOCAL" + SECRET  # noqa: F841
    raise FileNotFoundError(2, "No such file", path)


def test_json_lines(log):
    """Away from a terminal each event is one JSON object: when, how bad, what, by whom, then the facts."""
    stream = log()
    logs.get("loop").info("settled", conversations=3, ids=("17457886043",), quick=True, none=None)

    (line,) = documents(stream)
    when = line.pop("ts")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", when)
    assert line == {
        "level": "info",
        "event": "settled",
        "logger": "loop",
        "conversations": 3,
        "ids": ["17457886043"],
        "quick": True,
        "none": None,
    }
    assert stream.getvalue().startswith('{"ts": "')


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error", "error"]),
        ("info", ["info", "warning", "error", "error"]),
        ("warning", ["warning", "error", "error"]),
        ("error", ["error", "error"]),
    ],
)
def test_levels(level, written, log):
    """What is less important than the level is not written."""
    stream = log(level)
    logger = logs.get("x")
    for say in (logger.debug, logger.info, logger.warning, logger.error):
        say("it happened")
    try:
        fail()
    except OSError:
        logger.exception("it failed")

    assert written == [line["level"] for line in documents(stream)]


def test_before_setup_nothing_is_written(capfd):
    """A logger may be used at any time; until setup it is silent, afterwards it is the same one that speaks."""
    logs._sink = None
    logger = logs.get("early")
    logger.error("unheard")
    stream = io.StringIO()
    logs.setup("info", stream=stream)
    logger.info("heard")

    assert [line["event"] for line in documents(stream)] == ["heard"]
    assert capfd.readouterr() == ("", "")


def test_setup_again_replaces(log):
    """The newest setup is the only one, for our loggers and for those of libraries."""
    first, second = log("debug"), log("error")
    logs.get("x").info("quiet")
    logs.get("x").error("ours")
    logging.getLogger("lib").error("theirs")

    assert first.getvalue() == ""
    assert [line["event"] for line in documents(second)] == ["ours", "theirs"]


def test_bind_adds_to_every_line(log):
    """Bound facts are in every line of that logger and in no other's."""
    stream = log()
    logger = logs.get("x")
    bound = logger.bind(worktree=1, n=1)
    bound.info("a", n=2)
    logger.info("b")

    assert [(line.get("worktree"), line.get("n")) for line in documents(stream)] == [(1, 2), (None, None)]


def test_library_records(log):
    """What a library says through the standard library goes through the same pipe, from warnings on."""
    stream = log("debug")
    library = logging.getLogger("watchdog.observers.inotify_c")
    library.debug("every event")
    library.info("some event")
    library.warning("overflow at %s", f"/r/conversations/{SLUG}")
    library.warning("bad %d", "format")
    try:
        fail()
    except OSError:
        library.critical("died", exc_info=True)

    lines = documents(stream)
    assert [(line["level"], line["event"]) for line in lines] == [
        ("warning", "overflow at /r/conversations/17457886043"),
        ("warning", "bad %d"),
        ("error", "died"),
    ]
    assert {line["logger"] for line in lines} == {library.name}
    assert lines[2]["exception"][0]["exc_type"] == "FileNotFoundError"


@pytest.mark.parametrize("tty", [False, True], ids=["json", "terminal"])
def test_nothing_private_is_written(tty, log):
    """No secret, no directory's slug and no local variable is in a line, wherever it came from."""
    stream = log(tty=tty, color=False)
    logger = logs.get("x").bind(root=f"/r/{SLUG}")
    logger.info(SECRET, deep=[{"a": SECRET}], token="tell-nobody", path=f"/r/{SLUG}/x")
    try:
        fail()
    except OSError as error:
        logger.exception("failed", error=error)
    logging.getLogger("lib").error("lib %s", SECRET)

    written = stream.getvalue()
    assert "FileNotFoundError" in written
    assert "[redacted:openai]" in written
    assert "17457886043" in written
    assert [leak for leak in (SECRET, "told-nobody", "tell-nobody", "LOCAL") if leak in written] == []


def test_readable_on_a_terminal(log):
    """A person gets a line of text; colour only where it is wanted."""
    plain, coloured = [], []
    for written, color in ((plain, False), (coloured, True)):
        stream = log(tty=True, color=color)
        logs.get("loop").warning("deferred", n=3)
        written.append(stream.getvalue())

    assert re.fullmatch(r"\S+Z \[warning\s*\] deferred\s+\[loop\] n=3\n", plain[0])
    assert "\x1b[" in coloured[0]


def test_no_color_is_honoured(log, monkeypatch):
    """NO_COLOR wins over a terminal."""
    monkeypatch.setenv("NO_COLOR", "1")
    stream = log(tty=True)
    logs.get("x").error("plain")

    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("tty", [False, True], ids=["json", "terminal"])
def test_priority_for_the_journal(tty, monkeypatch, tmp_path):
    """Where the stream is the journal's each line, also of a traceback, starts with its priority."""
    with (tmp_path / "journal").open("w+") as stream:
        seen = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{seen.st_dev}:{seen.st_ino}")
        logs.setup("debug", stream=stream, tty=tty, color=False)
        logger = logs.get("x")
        for say in (logger.debug, logger.info, logger.warning, logger.error):
            say("it happened")
        try:
            fail()
        except OSError:
            logger.exception("it failed")
        stream.seek(0)
        lines = stream.read().splitlines()

    assert [line[:3] for line in lines[:5]] == ["<7>", "<6>", "<4>", "<3>", "<3>"]
    assert all(line.startswith("<3>") for line in lines[4:])


def test_no_priority_where_the_variable_was_only_inherited(monkeypatch, tmp_path):
    """A terminal that a service started passes the variable on; its stream is not the journal's."""
    with (tmp_path / "file").open("w+") as stream:
        monkeypatch.setenv("JOURNAL_STREAM", "8:1")
        logs.setup("info", stream=stream)
        logs.get("x").info("it happened")
        stream.seek(0)

        assert json.loads(stream.read())["event"] == "it happened"


def test_bytes_that_are_no_text(tmp_path):
    """A name that is no text, or no text of this stream, does not stop a line."""
    for encoding in ("ascii", "utf-8"):
        for tty in (False, True):
            with (tmp_path / "log").open("w+", encoding=encoding) as stream:
                logs.setup("info", stream=stream, tty=tty, color=False)
                logs.get("x").info("odd", path="/r/\udcff/é")
                stream.seek(0)

                assert "odd" in stream.read()


def test_a_stream_that_takes_nothing():
    """A closed, full or broken stream loses lines and stops nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    broken = open(writer, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
    closed = io.StringIO()
    closed.close()
    for stream in (broken, closed):
        logs.setup("info", stream=stream, tty=False)
        logs.get("x").error("unheard")
        logging.getLogger("lib").error("unheard")
    with pytest.raises(BrokenPipeError):
        broken.close()


def test_importing_costs_nothing():
    """Neither structlog nor logging nor the patterns are imported before setup."""
    ask = (
        "import sys; from convsync_agent import logs; logs.get('x').error('unheard');"
        "print(sorted({'structlog', 'logging', 'convsync_agent.redact'} & set(sys.modules)))"
    )
    env = {"PYTHONPATH": os.path.dirname(os.path.dirname(logs.__file__))}
    done = subprocess.run([sys.executable, "-c", ask], env=env, capture_output=True, text=True, check=True)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")
