"""What a file system is worth as the ground of a root, by facts alone."""

import pytest

from convsync_agent.grounds import Ground, granule, judge_grounds, kept_step, sync_folder

S = 1_000_000_000


@pytest.mark.parametrize(
    ("path", "markers", "who"),
    [
        ("/home/me/code", (), ""),
        ("/home/me/Dropbox/code", (), "Dropbox"),
        ("/home/me/Dropbox (Work)/code", (), "Dropbox"),
        ("/home/me/OneDrive - Contoso/code", (), "OneDrive"),
        ("/home/me/OneDrive", (), "OneDrive"),
        ("/Users/me/Library/Mobile Documents/com~apple~CloudDocs/x", (), "iCloud"),
        ("/Users/me/Google Drive/x", (), "Google Drive"),
        ("/Users/me/Library/CloudStorage/Box-Box/x", (), "a cloud drive"),
        ("/home/me/code", (".stfolder",), "Syncthing"),
        ("/home/me/code", (".dropbox.cache",), "Dropbox"),
        ("/home/me/dropbox-clone/code", (), ""),
        ("/home/me/my-onedrive/code", (), ""),
    ],
)
def test_who_carries_it_away(path, markers, who):
    """By a name in the path, or by what such a program leaves in its directory; a name that only resembles is none."""
    assert sync_folder(path, markers) == who


@pytest.mark.parametrize(
    ("times", "step"),
    [
        ([1_700_000_000_123_456_789 + n for n in range(8)], 1),
        ([n * S for n in range(1, 20)], S),
        ([n * 2 * S for n in range(1, 20)], 2 * S),
        ([n * 100 for n in range(1, 20)], 100),
        ([n * S for n in range(7)], 0),
        ([], 0),
    ],
)
def test_the_step_of_times(times, step):
    """The largest that all of them are multiples of; too few prove nothing."""
    assert granule(times) == step


@pytest.mark.parametrize("step", [1, 100, 1_000, S, 2 * S])
def test_what_is_kept_of_a_time_tells_the_step(step):
    """A time that no step divides comes back rounded down to it."""
    odd = 1_700_000_001_123_456_789

    assert kept_step(odd, odd - odd % step) == step


def ground(role="silo", **facts):
    return Ground(role, f"/x/{role}", **{"device": 1, "kind": "ext4", "free": 10**12, "inodes": 10**6, **facts})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, set()),
        ({"kind": "nfs4", "silent": True}, {"warn file-system"}),
        ({"role": "state directory", "kind": "nfs4", "silent": True, "ours": True}, {"error file-system"}),
        ({"carrier": "Dropbox"}, {"warn sync-folder"}),
        ({"role": "worktree", "carrier": "Dropbox"}, {"warn sync-folder"}),
        ({"carrier": "Dropbox", "ours": True}, {"warn sync-folder"}),
        ({"times_ns": S}, {"warn mtime"}),
        ({"times_ns": 4_000_000}, set()),
        ({"free": 10**6}, {"error space"}),
        ({"free": 10**9, "needed": 10**10}, {"warn space"}),
        ({"inodes": 5}, {"error inodes"}),
        ({"inodes": 500, "conversations": 100}, {"warn inodes"}),
        ({"inodes": None, "conversations": 100}, set()),
    ],
)
def test_a_ground(changed, expected):
    """Told of changes, nobody else's, fine times, room for what may be written; one ok for each other subject."""
    found = judge_grounds([ground(**changed)])
    wrong = {f"{f.level} {f.code}" for f in found if f.level != "ok"}

    assert wrong == expected
    assert {str(f.code) for f in found} == {"file-system", "sync-folder", "mtime", "space", "inodes"}
    assert all((f.fix is None) == (f.level == "ok") for f in found)


def test_room_is_counted_by_device():
    """Two roots on one disk need their room together."""
    alone, both = ground(free=10**9, needed=6 * 10**8), ground("worktree", free=10**9, needed=6 * 10**8)

    assert {f.level for f in judge_grounds([alone])} == {"ok"}
    assert ["space"] == [f.code for f in judge_grounds([alone, both]) if f.level == "warn"]
    assert {f.level for f in judge_grounds([alone, both._replace(device=2)])} == {"ok"}
