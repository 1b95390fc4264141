"""A stream that changes more often than it can be copied. A real writer that does not rest, a real engine."""

from __future__ import annotations

import os
import threading
from contextlib import closing

from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.settings import Settings
from machine import WS

C = 17000000001
ENOUGH = 60  # cycles; two are the rule, and by luck alone it takes hundreds
BIG = '"' + "x" * 1_000_000 + '"'


def test_it_becomes_durable_while_its_writer_goes_on(machine):
    """Some version that was written is durable before the writer rests, whole and under the age that it had."""
    tree = machine.worktree("a")
    directory = machine.write(tree, C, "one")
    machine.ok("sync")
    stream, durable = directory / "events.json", machine.directory(machine.silo(), C) / "events.json"
    before, written, rest = durable.read_bytes(), {}, threading.Event()
    head = before.rstrip()[:-1].rstrip()

    def write():
        number = 0
        while not rest.is_set():
            number += 1
            event = b',\n{"timestamp":"2025-01-01 00:00:00.0","type":"x","n":%d,"v":%s}\n]\n' % (number, BIG.encode())
            temp = stream.with_name("events.json.tmp")
            temp.write_bytes(head + event)
            written[number] = os.stat(temp).st_mtime_ns
            os.rename(temp, stream)

    with closing(state.writer(str(machine.base / "state/convsync"))) as opened:
        engine = Engine(opened, str(machine.base / "data/convsync"), Settings())
        site = engine.sites[WS]
        engine.rescan(site)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            engine.closed.add((str(tree / ".jp"), C, "events.json"))
            cycles = 0
            while durable.read_bytes() == before and cycles < ENOUGH:
                engine.cycle(site, {C})
                cycles += 1
            assert cycles < ENOUGH
            assert writer.is_alive()
        finally:
            rest.set()
            writer.join()
        found, age = durable.read_bytes(), os.stat(durable).st_mtime_ns

    number = int(found.partition(b'"n":')[2].partition(b",")[0])
    assert found.startswith(head)
    assert found.endswith(BIG.encode() + b"}\n]\n")
    assert age == written[number]
