"""The table of inotify's watches: what each watched directory is to whom. Knows no kernel; its owner holds the lock.

A watch of a conversation is one short string, since there are 20,000 of them; of the few others one
directory may be several things. Each entry carries the term of an arming; the next one starts another.
"""

from __future__ import annotations

from typing import NamedTuple

from convsync_agent.hints import Watched


class Armed:
    """One path we were told to watch. Its watches carry its term; the next `arm` starts a new one."""

    __slots__ = ("path", "place", "root", "term")

    def __init__(self, root: str) -> None:
        self.root, self.path, self.place, self.term = root, "", Watched.ROOT, ""


class Spot(NamedTuple):
    term: str
    place: Watched
    name: str  # with ABOVE: the entry that leads to the root


class Watches:
    """Which watch stands for what."""

    def __init__(self) -> None:
        self.rooms: dict[int, str] = {}  # watch -> "term/name" of a conversation
        self.spots: dict[int, tuple[Spot, ...]] = {}
        self.terms: dict[str, Armed] = {}
        self._in_term: dict[str, int] = {}  # how many rooms
        self._last_term = 0

    def __len__(self) -> int:
        return len(self.rooms.keys() | self.spots.keys()) if self.spots else len(self.rooms)

    def clear(self) -> None:
        for table in (self.rooms, self.spots, self.terms, self._in_term):
            table.clear()

    def begin(self, armed: Armed) -> None:
        self._last_term += 1
        armed.term = str(self._last_term)
        self.terms[armed.term] = armed

    def held(self, term: str) -> int:
        """How many watches this term has."""
        spots = sum(any(s.term == term for s in each) for each in self.spots.values())
        return spots + self._in_term.get(term, 0)

    def end(self, armed: Armed, *, but: str) -> list[int]:
        """The terms of this path are over; the watches that carry one of them, each for `drop_stale`."""
        over = [term for term, of in self.terms.items() if of is armed and term != but]
        for term in over:
            del self.terms[term]
        stale = [wd for wd, spots in self.spots.items() if any(s.term in over for s in spots)]
        if any(self._in_term.get(term) for term in over):
            stale += [wd for wd, key in self.rooms.items() if key.partition("/")[0] in over]
        return stale

    def others(self, armed: Armed, rooms: frozenset[str]) -> list[int]:
        """Forget every conversation of this path but `rooms`; their watches, each for `drop_stale`."""
        mine = {term for term, of in self.terms.items() if of is armed}
        parts = ((wd, *key.partition("/")) for wd, key in self.rooms.items())
        found = [wd for wd, term, _, name in parts if term in mine and name not in rooms]
        for wd in found:
            self.set_room(wd, None)
        return found

    def drop_stale(self, wd: int) -> bool:
        """Forget what this watch was in terms that are over. True: it is nothing any more."""
        room = self.rooms.get(wd)
        if room is not None and room.partition("/")[0] not in self.terms:
            self.set_room(wd, None)
        live = tuple(s for s in self.spots.pop(wd, ()) if s.term in self.terms)
        if live:
            self.spots[wd] = live
        return not live and wd not in self.rooms

    def set_room(self, wd: int, key: str | None) -> None:
        old = self.rooms.pop(wd, None)
        if old is not None:
            term = old.partition("/")[0]
            self._in_term[term] -= 1
            if not self._in_term[term]:
                del self._in_term[term]
        if key is not None:
            term = key.partition("/")[0]
            self.rooms[wd] = key
            self._in_term[term] = self._in_term.get(term, 0) + 1

    def room(self, wd: int) -> tuple[Armed | None, str]:
        """Whose conversation this is, and its name."""
        term, _, name = self.rooms.get(wd, "").partition("/")
        return self.terms.get(term), name

    def add_spot(self, wd: int, spot: Spot) -> None:
        armed = self.terms.get(spot.term)
        others = (s for s in self.spots.get(wd, ()) if self.terms.get(s.term) is not armed or s[1:] != spot[1:])
        self.spots[wd] = (*others, spot)

    def forget(self, wd: int) -> None:
        self.set_room(wd, None)
        self.spots.pop(wd, None)
