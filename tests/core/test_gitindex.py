"""Git's index, read: what git itself says it holds; and no bytes that break the reader."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convsync_agent.gitindex import Entry, NotReadableError, parse

STAT = (1_700_000_001, 5, 1_700_000_002, 7, 8, 99, 0o100644, 1, 2, 1234)  # ctime, mtime, dev, ino, mode, uid, gid, size
WANTED = Entry(1_700_000_002, 7, 99, 1234, b"\x11" * 20)


def entry(path, *, flags=0, second=None, blob=b"\x11" * 20):
    """One entry as versions 2 and 3 have it."""
    length = min(len(path), 0xFFF) | flags | (0x4000 if second is not None else 0)
    raw = struct.pack(">10I", *STAT) + blob + struct.pack(">H", length)
    raw += struct.pack(">H", second) if second is not None else b""
    raw += path
    return raw + bytes(8 - len(raw) % 8)


def sealed(entries=(), *, version=2, count=None, tail=b"", seal=hashlib.sha1):
    """A whole index: header, entries, extensions, checksum."""
    raw = struct.pack(">4sII", b"DIRC", version, len(entries) if count is None else count) + b"".join(entries) + tail
    return raw + (seal(raw).digest() if seal else bytes(20))


def extension(mark, data=b"x"):
    return mark + struct.pack(">I", len(data)) + data


# -- what counts ----------------------------------------------------------------------


def test_an_entry_is_what_git_noted():
    """Mtime in seconds and ns, inode, size and the id of the content."""
    assert parse(sealed([entry(b"a/b")])).entry(b"a/b") == WANTED
    assert parse(sealed([entry(b"a/b")])).entry(b"a") is None


COUNT = [
    ("plain", entry(b"a"), True),
    ("assume unchanged", entry(b"a", flags=0x8000), True),
    ("skip-worktree", entry(b"a", second=0x4000), True),
    ("intent to add", entry(b"a", second=0x2000), False),
    ("base of a conflict", entry(b"a", flags=0x1000), False),
    ("ours", entry(b"a", flags=0x2000), False),
    ("theirs", entry(b"a", flags=0x3000), False),
]


@pytest.mark.parametrize(("one", "counts"), [row[1:] for row in COUNT], ids=[row[0] for row in COUNT])
def test_which_entries_count(one, counts):
    """Conflict stages and intent-to-add say nothing of a file; skip-worktree and assume-unchanged may."""
    assert parse(sealed([one], version=3)).paths() == ([b"a"] if counts else [])


@pytest.mark.parametrize("prefix", [b"", b"b", b"b/", b"b/c", b"zz"])
def test_only_what_is_asked_for_is_kept(prefix):
    """A prefix is of bytes, and what does not begin with it is left out."""
    paths = [b"a", b"b/c", b"b/d", b"bc", b"c\xff"]

    assert parse(sealed([entry(p) for p in paths]), prefix).paths() == [p for p in paths if p.startswith(prefix)]


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 0xFFE, 0xFFF, 0x1000, 9000])
def test_paths_of_any_length(length):
    """Padding is of one to eight bytes; from 4095 bytes on the length is not noted."""
    paths = [b"a" * length, b"b"]

    assert parse(sealed([entry(p) for p in paths])).paths() == paths


# -- what is not readable -------------------------------------------------------------

ONE = sealed([entry(b"a")])
BAD = [
    ("nothing", b"", "cut off"),
    ("a few bytes", b"DIRC", "cut off"),
    ("something else", bytes(100), "no index"),
    ("version 1", sealed(version=1), "of an unknown version"),
    ("version 5", sealed(version=5), "of an unknown version"),
    ("cut in an entry", ONE[:50], "damaged"),
    ("without its checksum", ONE[:-20], "damaged"),
    ("one bit", ONE[:20] + bytes([ONE[20] ^ 1]) + ONE[21:], "damaged"),
    ("fewer entries than it says", sealed([entry(b"a")], count=2), "damaged"),
    ("more entries than it says", sealed([entry(b"a"), entry(b"b")], count=1), "of an unknown kind"),
    ("far more entries", sealed([entry(b"a")], count=2**32 - 1), "damaged"),
    ("split", sealed([entry(b"a")], tail=extension(b"link", bytes(20))), "split"),
    ("an unknown extension that has to be understood", sealed(tail=extension(b"abcd")), "of an unknown kind"),
    ("an extension that is cut", sealed(tail=b"TREE\0\0\0\x09x"), "damaged"),
    ("half an extension", sealed(tail=b"TREE"), "damaged"),
    ("version 4 that takes away too much", sealed([entry(b"")[:62] + b"\x05a\0"], version=4), "damaged"),
    ("version 4 without an end", sealed([entry(b"")[:62] + b"\0aaa"], version=4), "damaged"),
]


@pytest.mark.parametrize(("raw", "why"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_what_is_not_readable_is_said_in_a_word(raw, why):
    """Damage, split and unknown indexes are one error, and its text holds nothing of the index."""
    with pytest.raises(NotReadableError) as caught:
        parse(raw)

    assert str(caught.value) == why


FINE = [
    ("no entry", sealed(), []),
    (
        "extensions that may be ignored",
        sealed([entry(b"a")], tail=extension(b"TREE") + extension(b"UNTR", b"")),
        [b"a"],
    ),
    ("a fsmonitor and an end of entries", sealed(tail=extension(b"FSMN") + extension(b"EOIE")), []),
    ("a sparse index", sealed([entry(b"a/"), entry(b"b")], tail=extension(b"sdir", b"")), [b"a/", b"b"]),
    ("no checksum", sealed([entry(b"a")], seal=None), [b"a"]),
    ("SHA-256", sealed([entry(b"a", blob=b"\x11" * 32)], seal=hashlib.sha256), [b"a"]),
    ("SHA-256 without a checksum", sealed([entry(b"a", blob=b"\x11" * 32)], seal=None) + bytes(12), [b"a"]),
    ("SHA-256 of nothing", sealed(seal=hashlib.sha256), []),
]


@pytest.mark.parametrize(("raw", "paths"), [row[1:] for row in FINE], ids=[row[0] for row in FINE])
def test_what_is_readable(raw, paths):
    """Extensions that one may ignore are; `index.skipHash` and SHA-256 are told from the bytes themselves."""
    assert parse(raw).paths() == paths


# -- laws -----------------------------------------------------------------------------


def survives(raw):
    try:
        parse(raw)
    except NotReadableError:
        return


def resealed(raw):
    return raw[:-20] + hashlib.sha1(raw[:-20]).digest()


@given(st.binary(max_size=300), st.sampled_from([2, 3, 4]), st.integers(0, 5))
def test_no_bytes_break_it(tail, version, count):
    """Whatever follows a header, with a right checksum, is an index or the one error."""
    survives(tail)
    survives(sealed([tail], version=version, count=count))


@given(st.data())
def test_no_damage_breaks_it(data):
    """An index with bytes changed, taken out or put in, its checksum made right, is an index or the one error."""
    packed = [entry(b"")[:62] + b"\0abc\0", entry(b"")[:62] + b"\x02de\0"]
    whole = data.draw(st.sampled_from([
        sealed([entry(b"a/b"), entry(b"a/c", second=0x4000)], version=3, tail=extension(b"TREE")),
        sealed(packed, version=4, tail=extension(b"EOIE", bytes(24))),
    ]))  # fmt: skip
    begin = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(begin, min(len(whole), begin + 8)))
    changed = whole[:begin] + data.draw(st.binary(max_size=8)) + whole[end:]

    survives(changed)
    survives(resealed(changed))


# -- as git has it --------------------------------------------------------------------

ENV = dict(os.environ, GIT_CONFIG_GLOBAL=os.devnull, GIT_CONFIG_NOSYSTEM="1")


def git(top, *argv, **more):
    return subprocess.run(["git", "-C", top, *argv], check=True, capture_output=True, env=ENV, **more).stdout


def as_git_says(top):
    """`git ls-files --debug`: path to entry, stage 0 only."""
    stage = re.compile(rb"\d+ ([0-9a-f]+) 0\t([^\0]*)\0")
    ids = {m[2]: bytes.fromhex(m[1].decode()) for m in stage.finditer(git(top, "ls-files", "--stage", "-z"))}
    debug = re.compile(
        rb"([^\0]+)\0  ctime: \d+:\d+\n  mtime: (\d+):(\d+)\n  dev: \d+\tino: (\d+)\n"
        rb"  uid: \d+\tgid: \d+\n  size: (\d+)\tflags: [0-9a-f]+\n"
    )
    found = debug.finditer(git(top, "ls-files", "--debug", "-z"))
    return {m[1]: Entry(*(int(m[i]) for i in (2, 3, 4, 5)), ids[m[1]]) for m in found}


PATHS = st.lists(
    st.lists(st.sampled_from([b"a", b"ab", b"b", b"\xff\xfe", b"-", b" c", "日本".encode(), b"x" * 200]), min_size=1)
    .map(lambda parts: b"/".join(parts[:5])),
    max_size=12,
    unique=True,
)  # fmt: skip


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(paths=PATHS, version=st.sampled_from(["2", "4"]), kind=st.sampled_from(["sha1", "sha256"]))
def test_it_reads_what_git_wrote(paths, version, kind):
    """Random trees, versions and kinds of object: the entries are those that git lists."""
    with tempfile.TemporaryDirectory() as top:
        git(top, "init", "-q", f"--object-format={kind}")
        for number, path in enumerate(paths):
            place = Path(top, os.fsdecode(path))
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(b"x" * number)
            except OSError:  # a name that is a directory already, or below a file
                continue
        git(top, "add", ".")
        git(top, "update-index", "--index-version", version, "--force-write-index")
        raw = Path(top, ".git/index").read_bytes()
        index = parse(raw)

        assert raw[4:8] == struct.pack(">I", int(version))
        assert {p: index.entry(p) for p in index.paths()} == as_git_says(top)


@pytest.mark.parametrize("version", [2, 4])
def test_ten_thousand_entries_take_milliseconds(version):
    """It is read while a checkout is being judged: some 10 ms, with room for a machine that does other things."""
    names = [b".jp/conversations/%d-a-title/events.json" % (17_000_000_000 + n) for n in range(10_000)]
    entries = [entry(n) for n in names] if version == 2 else [entry(b"")[:62] + b"\0" + names[0] + b"\0"]
    if version == 4:
        strip = len(names[0]) - len(b".jp/conversations/")
        entries += [entry(b"")[:62] + bytes([strip]) + n[-strip:] + b"\0" for n in names[1:]]
    raw = sealed(entries, version=version)
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        index = parse(raw, b".jp/")
        took.append(time.perf_counter() - begin)

    assert index.paths() == names
    assert min(took) < 0.1
