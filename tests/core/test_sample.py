"""Generated conversations are such as JP writes, and change as JP changes them."""

from __future__ import annotations

import base64
import fcntl
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent import sample
from convsync_agent.content import check_events, stream_contains
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA
from convsync_agent.summary import parse_timestamp

CID = 17_000_000_001
SEEDS = st.integers(0, 2**32)
TURNS = st.integers(0, 12)


def made(seed=1, turns=3, title="A title"):
    return sample.conversation(seed, cid=CID, title=title, turns=turns)


@given(seed=SEEDS, turns=TURNS, title=st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))))
def test_whatever_is_generated_is_valid(seed, turns, title):
    """JP could load every generated conversation."""
    assert sample.faults(made(seed, turns, title)) == []


@given(seed=SEEDS, turns=TURNS)
def test_the_same_seed_gives_the_same_bytes(seed, turns):
    """A seed and an id decide every byte; another seed or id gives other ones."""
    assert made(seed, turns) == made(seed, turns)
    assert made(seed, turns) != made(seed + 1, turns)


def test_the_encoding_is_jps():
    """Two spaces, nothing escaped that need not be, one line feed at the end, JP's order of keys."""
    files = made(turns=8)
    for raw in files.values():
        assert raw == (json.dumps(json.loads(raw), indent=2, ensure_ascii=False) + "\n").encode()
    assert list(json.loads(files[METADATA])) == ["title", "last_activated_at"]
    assert "é".encode() in b"".join(made(seed)[EVENTS] for seed in range(9))
    for event in json.loads(files[EVENTS]):
        first = ["type", "timestamp"] if event["type"] == "config_delta" else ["timestamp", "type"]
        assert list(event)[:2] == first


def test_what_jp_stores_as_base64_is_base64():
    """Tool arguments, tool results and event metadata (contract 4.5), and no question or answer."""
    for event in json.loads(made(turns=8)[EVENTS]):
        stored = list(event.get("metadata", {}).values())
        if event["type"] == "tool_call_request":
            stored.append(event["arguments"]["path"])
        if event["type"] == "tool_call_response":
            stored.append(event["content"])
        for text in stored:
            assert base64.b64decode(text, validate=True).decode()


def test_time_goes_on():
    """Every event is later than the one before, also those that are appended."""
    events = sample.append_turn(sample.append_turn(made(turns=6)[EVENTS], 6), 7)
    times = [parse_timestamp(e["timestamp"]) for e in json.loads(events)]
    assert None not in times
    assert times == sorted(set(times))


@given(seed=SEEDS, turns=TURNS, more=st.integers(1, 4))
def test_an_appended_turn_keeps_what_was_there(seed, turns, more):
    """The old stream is contained in the new one, byte for byte, and the new one is valid and canonical."""
    files = made(seed, turns)
    before, after = files[EVENTS], files[EVENTS]
    for n in range(more):
        after = sample.append_turn(after, turns + n)
    assert check_events(after, packed=False) == ""
    assert stream_contains((files[BASE_CONFIG], after), (files[BASE_CONFIG], before))
    assert not stream_contains((files[BASE_CONFIG], before), (files[BASE_CONFIG], after))
    assert after.startswith(before.removesuffix(b"]\n").rstrip())
    assert after == sample.as_jp(json.loads(after))


def test_a_foreign_form_is_not_appended_to():
    """What JP did not write is not continued as if it had."""
    with pytest.raises(ValueError, match="JP's form"):
        sample.append_turn(b"[]", 0)


def test_a_new_title_changes_nothing_else():
    """Only the title differs, and it comes first."""
    before, after = (json.loads(m) for m in (made()[METADATA], sample.retitled(made()[METADATA], "Other")))
    assert after == before | {"title": "Other"}
    assert next(iter(after)) == "title"
    assert "title" in json.loads(sample.retitled(made(title=None)[METADATA], "New"))


def test_writing_skips_equal_bytes(tmp_path):
    """As in JP: what is there already keeps its inode and its mtime, and no temporary file stays."""
    at = tmp_path / "conversations" / str(CID)
    files = made()
    assert sample.write_as_jp(str(at), files) == [METADATA, BASE_CONFIG, EVENTS]
    stamps = {p.name: p.stat() for p in at.iterdir()}
    files[EVENTS] = sample.append_turn(files[EVENTS], 3)
    assert sample.write_as_jp(str(at), files) == [EVENTS]
    assert {p.name: p.read_bytes() for p in at.iterdir()} == files
    assert (at / METADATA).stat() == stamps[METADATA]
    assert (at / EVENTS).stat().st_ino != stamps[EVENTS].st_ino


def test_the_lock_is_jps(tmp_path):
    """An exclusive flock on the silo's lock file, which names its holder and is gone afterwards."""
    path = tmp_path / "locks" / f"jp-c{CID}.lock"
    with sample.locked_as_jp(str(tmp_path), CID), open(path, "rb") as other:
        assert json.loads(path.read_bytes())["pid"] == os.getpid()
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert not path.exists()


def test_conversations_are_found_below_a_directory(tmp_path):
    """Three valid files make one; versions inside it count as that conversation, the last one is taken."""
    old, new = made(turns=1), made(turns=2)
    for where, files in (
        (f"{CID}-a-title/01-aaaa", old),
        (f"{CID}-a-title/10-bbbb", new),
        ("deep/er/17000000002", old),
        ("17000000003-broken", old | {EVENTS: b"[{]"}),
        ("17000000004-legacy", {METADATA: old[METADATA], EVENTS: old[EVENTS]}),
        ("notes", old),
    ):
        (tmp_path / where).mkdir(parents=True)
        for name, raw in files.items():
            (tmp_path / where / name).write_bytes(raw)
    found = sample.conversations_below(str(tmp_path))
    assert found == {CID: (f"{CID}-a-title", new), 17_000_000_002: ("17000000002", old)}
