"""The agent: startup, loop, shutdown. One thread decides and writes; the watcher's only bring hints."""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import time

from convsync_agent import __version__, diary, locks, logs, pausing, publish, signals, state
from convsync_agent.agenda import Agenda
from convsync_agent.aside import Aside
from convsync_agent.bulletin import Bulletin
from convsync_agent.delegation import Delegation
from convsync_agent.dirs import ensure_private
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError, kind_of, reason_of
from convsync_agent.hearing import hear
from convsync_agent.hints import Change, Hint
from convsync_agent.inforce import InForce
from convsync_agent.lookout import Lookout
from convsync_agent.outcome import Outcome
from convsync_agent.pace import Pace
from convsync_agent.recover import finish_pending, recover
from convsync_agent.retention import Retention
from convsync_agent.returning import Returning
from convsync_agent.site import Site
from convsync_agent.vigil import Vigil

LOCK = "agent.lock"
DRAIN_SECONDS = 5.0
AWAIT_SECONDS = 0.05
SWITCH_INTERVAL = 0.001  # libs: the watcher's thread must get the interpreter quickly while we parse

log = logs.get("agent")


class Agent:
    """Everything the background process owns. `run` returns when a signal asked it to stop."""

    def __init__(self, state_dir: str, data_dir: str, runtime_dir: str, settings: InForce) -> None:
        self.state_dir, self.data_dir, self.runtime_dir = state_dir, data_dir, runtime_dir
        self.settings = settings
        self.hints: queue.SimpleQueue[Hint | None] = queue.SimpleQueue()
        self.stopping = False
        self.bulletin = Bulletin(state_dir, runtime_dir)
        self.agenda = Agenda()
        self.retention = Retention()
        self.returning = Returning()
        self.vigil, self.pace = Vigil(), Pace()
        self.delegation = Delegation(state_dir, data_dir, lambda: self.hints.put(None))
        self.engine: Engine
        self.lookout: Lookout

    # -- life cycle -------------------------------------------------------------

    def run(self) -> None:
        """Startup, loop, shutdown. Raises Refused when another agent runs, StorageProblem without a state."""
        for path in (self.state_dir, self.data_dir, self.runtime_dir, self.bulletin.signals):
            ensure_private(path)
        with (
            locks.single_agent(os.path.join(self.state_dir, LOCK)),
            signals.handled(self._asked_to_stop, self._asked_to_reload),
        ):
            sys.setswitchinterval(SWITCH_INTERVAL)
            try:
                self._start()
                while not self.stopping:
                    self._survived_turn()
                self._drain()
            except ConvsyncError:
                raise
            except Exception:  # a fault of ours: who starts it again has to be able to report it
                log.exception("gave up")
                raise
            finally:
                self._stop()

    def _start(self) -> None:
        self.engine = Engine(state.writer(self.state_dir), self.data_dir, self.settings.settings, look=False)
        self.vigil.starting()
        self.lookout = Lookout(self.hints.put, self.runtime_dir, canary_seconds=self.vigil.canary_seconds)
        self.aside = Aside(self.state_dir)
        self.aside.check(self.engine, self.agenda, write=True)
        self.engine.arrive()
        recovered = recover(self.engine)
        self.vigil.starting()
        self._arm_all()
        self._rescan_all("start")
        self.vigil.starting()
        self.aside.check(self.engine, self.agenda, write=True)
        self._work(everything=True)
        for name in os.listdir(self.bulletin.signals):  # asked before anybody was listening
            hear(self, Hint(Change.SIGNAL, file=name))
        log.info("started", version=__version__, workspaces=len(self.engine.sites), recovered=recovered)
        self._say(force=True)
        self.engine.vault.note_sites(self.engine.sites)
        self.vigil.ready()

    def _drain(self) -> None:
        """Finish what is already dirty, for a few seconds at most."""
        self.vigil.stopping()
        deadline = time.monotonic() + DRAIN_SECONDS
        self._sort_hints()
        while (self.agenda.ready() or self.delegation.busy) and time.monotonic() < deadline:
            self._await_deputy()
            self._work()
            self._sort_hints()

    def _stop(self) -> None:
        self.delegation.close()
        if hasattr(self, "lookout"):
            self.lookout.close()
        if hasattr(self, "engine"):
            self.engine.settle_waiting(self.engine.sites)
            self.engine.vault.close()
            self.engine.history.pressing.close()
            with contextlib.suppress(OSError):  # what is not copied into the file is in the log beside it
                self.engine.state.checkpoint()
            self.engine.state.close()
        self.bulletin.close()
        log.info("stopped")
        self.vigil.close()

    def _asked_to_stop(self) -> bool:
        """Called in a signal handler. True: it is the second time, end at once."""
        again, self.stopping = self.stopping, True
        self.hints.put(None)
        return again

    def _asked_to_reload(self) -> None:
        self.hints.put(Hint(Change.SIGNAL, file=publish.RELOAD))

    # -- one turn ---------------------------------------------------------------

    def _survived_turn(self) -> None:
        try:
            self._turn()
        except OSError as error:  # no descriptors, no memory, a disk that went: what was at hand is looked at again
            self.bulletin.failed(kind_of(error))
            log.warning("turn given up", code=kind_of(error), detail=reason_of(error))
            self.agenda.rescan_later()

    def _turn(self) -> None:
        said = self.bulletin.wait(touched=self.agenda.touched)
        waits = [self.lookout.health.wait(), said, self.aside.wait(), pausing.wait(self.engine.sites)]
        waits += [self.returning.wait(), self.delegation.wait()]
        if self.agenda.idle():  # else it would not be done, and asked for again at once
            waits += [self.engine.vault.wait(), self.engine.history.pressing.wait(), self.engine.settling_in()]
        timeout = max(0.0, min(self.agenda.wait(), *waits))
        with contextlib.suppress(queue.Empty):
            hear(self, self.hints.get(timeout=timeout) if timeout else self.hints.get_nowait())
        self._sort_hints()
        self.aside.check(self.engine, self.agenda)
        self._work()
        self._housekeeping()
        self._say()
        self.vigil.alive(self.lookout.health)

    def _sort_hints(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                hear(self, self.hints.get_nowait())

    # -- work -------------------------------------------------------------------

    def _work(self, *, everything: bool = False) -> None:
        """Do what is due, in batches, newest hints in between: a burst never blocks a single edit for long."""
        if self.agenda.reload:
            with self.vigil.reloading():
                self._reload()
        for root in self.agenda.take_rearm():
            self._rearm(root)
        reason = self.agenda.take_rescan()
        if reason:
            self._arm_all()
            self._rescan_all(reason)
        for root in self.agenda.take_relist():
            for site in self.engine.sites_of(root):
                view = site.view_at(root)
                if view is not None:
                    self.agenda.add_all(site.id, self.engine.rescan(site, [view]))
        while True:
            self.delegation.turn(self.engine, self.agenda, self._relocate, self._report)
            batch = self.agenda.take(self.pace.size)
            if batch is None and everything and self.delegation.busy:
                self._await_deputy()
                continue
            if batch is None:
                return
            workspace, conversations = batch
            if workspace in self.engine.sites:
                self._reconcile(self.engine.sites[workspace], conversations)
            if not everything and not self.agenda.ready():
                return
            self._breathe()
            self.aside.check(self.engine, self.agenda)

    def _reconcile(self, site: Site, conversations: set[int]) -> None:
        with self.pace.measured(len(conversations)):
            self._relocate(site, conversations)
            mine = self.delegation.without_huge(self.engine, self.agenda, site, conversations)
            if mine:
                self._report(site, self.engine.cycle(site, mine))

    def _keeps_elsewhere(self, site: Site, conversation: int) -> bool:
        return self.delegation.keeps_huge(self.engine, self.agenda, site, conversation)

    def _await_deputy(self) -> None:
        """There is nothing else to do: wait a little for what it hands back, or for a hint."""
        if not self.agenda.ready():
            with contextlib.suppress(queue.Empty):
                hear(self, self.hints.get(timeout=AWAIT_SECONDS))

    def _breathe(self) -> None:
        """In the middle of long work that gets on: hear what came in, and say that we are alive."""
        self._sort_hints()
        self.vigil.busy(self.agenda, self.lookout.health)

    def _relocate(self, site: Site, conversations: set[int]) -> None:
        for view in site.views():
            for conversation in conversations:
                names = self.agenda.names(view.root.path, conversation)
                if names and not self.engine.relocate(view, conversation, names):
                    self.agenda.add_all(site.id, self.engine.rescan(site, [view]) - conversations)
        self.agenda.forget_names(conversations)

    def _report(self, site: Site, outcome: Outcome) -> None:
        """Plan the next looks, count, and say what was done."""
        self.bulletin.meter.did(outcome.amounts, self.agenda.took(site.id, outcome))
        self.agenda.settle(site.id, outcome)
        ours = [p for p in outcome.problems if p.conversation is None and p.root is None]
        for problem in (*(r.problem for r in outcome.failed), *ours):
            self.bulletin.failed(problem.kind)
        diary.write(site.id, outcome)

    def _housekeeping(self) -> None:
        if (self.engine.waiting or self.engine.staged_in) and self.agenda.idle():
            self.engine.settle_waiting(self.engine.sites, linger=True)
        self.delegation.step()
        self.retention.run(self.engine, self._breathe)
        self.returning.run(self.engine, self.agenda)
        if self.agenda.idle():
            self.engine.vault.step(self.engine, self.engine.sites, self._keeps_elsewhere)
            self.engine.history.pressing.step()
            self.engine.contents.clear()
        if pausing.wait(self.engine.sites) <= 0:
            self.agenda.rescan_all("resumed")
        due = self.lookout.health.due()
        if due.dead:
            log.warning("watcher replaced", reason=due.dead)
            self.lookout.replace()
            self.agenda.rescan_all("watcher replaced")
        elif due.rescan:
            moved = [self.engine.locate(s) for s in self.engine.sites.values()]
            if self.lookout.improve() or any(moved):
                self._arm_all()
            self._rescan_all("net")

    def _rescan_all(self, reason: str) -> None:
        self.bulletin.meter.rescanned(reason)
        self.aside.refresh(self.engine, self.agenda)
        before = time.process_time()
        for site in self.engine.sites.values():
            finish_pending(self.engine, site)  # of a command that died beside us
            self.agenda.add_all(site.id, self.engine.rescan(site))
            if site.silo_identity is None or self.engine.ledger.troubled(site.id):
                self._report(site, self.engine.cycle(site, ()))
        self.lookout.health.scanned(time.process_time() - before)
        if reason != "net":
            log.info("rescan", reason=reason, due=self.agenda.size)

    def _arm_all(self) -> None:
        for site in self.engine.sites.values():
            self.lookout.arm_site(site)

    def _rearm(self, root: str) -> None:
        self.agenda.touched = True
        self.returning.soon()
        for site in self.engine.sites_of(root):
            self.lookout.arm(root, silo=site.silo.root.path == root)
            self.engine.locate(site)  # after arming: what appears from here on is heard
            view = site.view_at(root)
            if view is not None:  # what was written while the silo was away waits in the worktrees
                self.agenda.add_all(site.id, self.engine.rescan(site, None if view is site.silo else [view]))
            self._report(site, self.engine.cycle(site, ()))

    def _reload(self) -> None:
        """The registry or the settings changed: take the sites anew, keep what is still the same."""
        self.agenda.reload = False
        self.agenda.touched = True
        self.delegation.retire()
        self.settings.again(self.engine, self.bulletin)
        fresh = self.engine.renewed()
        gone = self.engine.roots() - fresh.roots()
        self.aside.check(fresh, self.agenda, write=True)
        fresh.arrive()
        fresh.remember(self.engine)
        self.engine = fresh
        self.engine.vault.note_sites(self.engine.sites)
        for root in gone:
            self.lookout.disarm(root)
        gc.collect()  # the engine before this one leads to itself: its tables would stay until a collection by chance
        self.agenda.rescan_all("registry")

    def _say(self, *, force: bool = False) -> None:
        self.bulletin.publish(self.engine, self.agenda, self.aside, self.lookout, force=force)
        self.vigil.look(self.engine, self.agenda, self.aside)
