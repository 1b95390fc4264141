"""The content that `restore` and `accept` are to make current: checked, read from a copy, completed. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from convsync_agent import fs, piecewise, scan
from convsync_agent.appraisal import too_large
from convsync_agent.bulk import Content, digest_of
from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.engine import Engine
from convsync_agent.errors import Refused, StorageProblem, storage_problem
from convsync_agent.model import BASE_CONFIG, BOTH, EVENTS, METADATA, Copy, Readable, Unit
from convsync_agent.names import id_text
from convsync_agent.site import Site, resolve
from convsync_agent.stream_json import judge

Contents = Mapping[Unit, Sequence[tuple[str, Content]]]
"""(name, content) of every file of each unit that is to become current."""


def fault_in(contents: Contents) -> str:
    """'' or why JP could not use this content."""
    for unit, files in contents.items():
        have = dict(files)
        if unit is Unit.METADATA:
            fault = _fault(METADATA, have[METADATA], check_metadata) if METADATA in have else f"no {METADATA}"
        elif unit is Unit.STREAM:
            base = have.get(BASE_CONFIG)
            fault = _fault(BASE_CONFIG, base, check_base_config) if base is not None else ""
            fault = fault or (_fault_in_events(have[EVENTS], packed=base is None) if EVENTS in have else f"no {EVENTS}")
        else:
            fault = ""
        if fault:
            return fault
    return ""


def _fault(name: str, content: Content, check: Callable[[bytes], str]) -> str:
    return check(content) if isinstance(content, bytes) else too_large(name)


def _fault_in_events(content: Content, *, packed: bool) -> str:
    return check_events(content, packed) if isinstance(content, bytes) else judge(content.pieces(), packed).fault


def look(engine: Engine, site: Site, conversation: int) -> list[Copy]:
    """Every copy there is now, the silo's first. Raises StorageProblem when the silo is not there."""
    resolve(site, time.time_ns() // 1_000_000)
    if site.silo_state is not Readable.YES:
        raise StorageProblem(
            "the silo is not there", where=site.silo.root.path, hint="convsync register", code="missing"
        )
    found = []
    for view in site.views():
        try:
            view.listing = scan.list_root(view.root.path)
            places = view.listing.places(conversation)
            found += [engine.eye.look(view.root, conversation, place, None)[0] for place in places]
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if view is site.silo:
                raise storage_problem(error, view.root.path, "read the durable copy") from None
    return found


def read_units(copy: Copy) -> dict[Unit, list[tuple[str, Content]]]:
    """The content of both units of a copy, as they were looked at. Raises Refused when they are changing."""
    found: dict[Unit, list[tuple[str, Content]]] = {}
    try:
        for unit in BOTH:
            names = [f.name for f in copy.unit(unit).files if f.stamp]
            found[unit] = [(name, piecewise.look(name, lambda: fs.opened_copy(copy))[0]) for name in names]
            if [digest_of(content) for _, content in found[unit]] != [d for d in copy.unit(unit).digest if d]:
                raise fs.ChangedError
    except (OSError, fs.ChangedError, fs.OddFileError):
        raise being_written(copy.conversation) from None
    return found


def completed(engine: Engine, site: Site, conversation: int, contents: Contents) -> Contents:
    """Where no copy is left at all, the other unit comes from the history, too: JP wants every file."""
    if look(engine, site, conversation):
        return contents
    found = dict(contents)
    for unit in BOTH:
        if unit not in found:
            versions = engine.history.versions(site.id, conversation)
            newest = next((m for m in versions if m.unit is unit and m.valid), None)
            if newest is None:
                raise Refused(
                    f"no copy is left, and the history has no {unit} to go with it",
                    where=id_text(conversation),
                    hint=f"convsync restore {id_text(conversation)} --into PATH",
                    code="incomplete",
                )
            files = engine.history.contents(site.id, conversation, newest.version)
            found[unit] = [(name, raw) for name, raw, _ in files]
    return found


def being_written(conversation: int) -> Refused:
    return Refused(
        "it is being written right now", where=id_text(conversation), hint="try again in a moment", code="unstable"
    )
