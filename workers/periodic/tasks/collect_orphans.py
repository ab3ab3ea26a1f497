"""Task collect-orphans: reports objects that no row names, and inputs of old jobs; a later run removes them.

Objects of other programs are left alone: Darkroom records the objects that it stores in `darkroom.objects`, and it
lists the storage only for inputs that a producer uploaded, and only if `DARKROOM_ORPHANS=delete` was set by hand.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from config.periodic_terms import RETENTION_DAYS, RetentionPolicy
from models.applications.registry import applications
from models.history.objects import OwnObject
from models.periodic.orphans import (
    artifact_page,
    note_removed,
    object_page,
    report_orphans,
    withdraw_reports,
    written_by_us,
)
from models.periodic.references import finished_inputs, named
from models.periodic.ticks import Cursor
from pipelines.keys import ANSWERS, INPUTS
from pipelines.storage.storage import Storage
from workers.objects import Fate, OrphansMode, orphans_mode, remove_own
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

YOUNGEST: Final = timedelta(days=1)
"""The least age of an orphan. The key of a younger object may not be in its row yet: an object is stored first."""

MOST_REMOVED: Final = 2_000
"""How many objects one chunk removes, so that its transaction is short; the next chunk continues after them."""

REMOVERS: Final = 8
"""How many objects are checked and removed at a time."""

Phase = Literal["objects", "artifacts", "inputs"]
PHASES: Final[tuple[Phase, ...]] = ("objects", "artifacts", "inputs")
_BEGINNING: Final[Mapping[Phase, Any]] = {"objects": "", "artifacts": ["", ""], "inputs": ""}


@dataclass(frozen=True, slots=True)
class _Found:
    """The orphans on a page. `over` are inputs of finished jobs; `next_after` is None after the last page."""

    looked_at: int
    named: Sequence[str]
    orphans: Sequence[OwnObject]
    over: Sequence[OwnObject]
    next_after: Any


async def collect(work: Work) -> Chunk:
    """Report or remove the orphans of the next page. The tick is locked, so no other run works on the page.

    Removing is idempotent: a chunk that is lost before its commit is done again.
    """
    phase, after = _place(work)
    found = await _look(work, phase, after)
    await withdraw_reports(work.connection, found.named)
    removable = [*found.orphans, *found.over]
    reported, earlier = await report_orphans(work.connection, removable, work.at)
    mode = await orphans_mode(work.connection, work.settings)
    due = [one for one in removable if one.key in earlier and _is_removed(mode, one)]
    fates = await _remove(work.storage, due[:MOST_REMOVED])
    removed, missing, overwritten = ([one for one, fate in fates if fate == wanted] for wanted in get_args(Fate))
    await note_removed(work.connection, [*removed, *missing], overwritten, work.at)
    over = {one.key for one in found.over}
    counts = {
        "looked_at": found.looked_at,
        "reported": reported,
        "removed": sum(one.key not in over for one in removed),
        "temporary": sum(one.key in over for one in removed),
        "removed_bytes": sum(one.size_bytes or 0 for one in removed),
        "missing": len(missing),
        "overwritten": len(overwritten),
    }
    if len(due) > MOST_REMOVED:
        return Chunk({"phase": phase, "after": after}, counts)  # the same page again, without what was removed now
    return Chunk(_next_place(phase, found.next_after), counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count orphans and old inputs, without reporting or removing any."""
    counts = {"looked_at": 0, "orphans": 0, "orphan_bytes": 0, "temporary": 0}
    place: Mapping[str, Any] | None = {"phase": PHASES[0], "after": _BEGINNING[PHASES[0]]}
    while place is not None:
        found = await _look(work, place["phase"], place["after"])
        counts["looked_at"] += found.looked_at
        counts["orphans"] += len(found.orphans)
        counts["orphan_bytes"] += sum(one.size_bytes or 0 for one in found.orphans)
        counts["temporary"] += len(found.over)
        place = _next_place(place["phase"], found.next_after)
    return counts


def _is_removed(mode: OrphansMode, one: OwnObject) -> bool:
    if mode.removes_answers and one.key.startswith(ANSWERS):
        return True
    others = tuple(f"{application.name}/" for application in applications() if application.name != "pictures")
    return mode.removes and (mode.covers_other_applications or not one.key.startswith(others))


def _place(work: Work) -> tuple[Phase, Any]:
    if work.cursor is None or work.cursor.get("phase") not in PHASES:  # a tick of an older release begins again
        return PHASES[0], _BEGINNING[PHASES[0]]
    return work.cursor["phase"], work.cursor["after"]


def _next_place(phase: Phase, next_after: Any) -> Cursor | None:
    if next_after is not None:
        return {"phase": phase, "after": next_after}
    following = PHASES[PHASES.index(phase) + 1 :]
    return {"phase": following[0], "after": _BEGINNING[following[0]]} if following else None


async def _look(work: Work, phase: Phase, after: Any) -> _Found:
    """Return the orphans on a page, without writing anything."""
    if phase == "inputs":
        return await _look_at_inputs(work, after)
    before = work.at - YOUNGEST
    if phase == "objects":
        page = await object_page(work.connection, after, before)
    else:
        page = await artifact_page(work.connection, after, before)
    keys = await named(work.connection, [one.key for one in page.unnamed])
    inputs = await finished_inputs(
        work.connection, [key for key in keys if key.startswith(INPUTS)], work.at_utc - _input_age(work)
    )
    return _Found(
        looked_at=len(page.named) + len(page.unnamed),
        named=[*page.named, *(keys - inputs)],
        orphans=[one for one in page.unnamed if one.key not in keys],
        over=[one for one in page.unnamed if one.key in inputs],
        next_after=page.last,
    )


async def _look_at_inputs(work: Work, after: str) -> _Found:
    """Return a page of inputs that producers uploaded; an empty one unless an operator has asked for their removal."""
    if not (await orphans_mode(work.connection, work.settings)).covers_producers_inputs:
        return _Found(0, [], [], [], None)
    page = await work.storage.list_objects(INPUTS, after=after, most=work.size)
    old = {listed.key: listed for listed in page if listed.modified_at <= work.at - YOUNGEST}
    theirs = old.keys() - await written_by_us(work.connection, old)
    over = await finished_inputs(work.connection, theirs, work.at_utc - _input_age(work))
    return _Found(
        looked_at=len(page),
        named=[*(theirs - over)],
        orphans=[],
        over=[OwnObject(key, None, old[key].size_bytes, old[key].modified_at) for key in sorted(over)],
        next_after=page[-1].key if len(page) == work.size else None,
    )


async def _remove(storage: Storage, objects: Sequence[OwnObject]) -> list[tuple[OwnObject, Fate]]:
    """Remove objects, a few at a time, and return what happened to each."""
    turn = asyncio.Semaphore(REMOVERS)

    async def remove(one: OwnObject) -> tuple[OwnObject, Fate]:
        async with turn:
            return one, await remove_own(storage, one)

    return await asyncio.gather(*(remove(one) for one in objects))


def _input_age(work: Work) -> timedelta:
    terms = work.settings.retention.get("temporary_objects", RETENTION_DAYS["temporary_objects"])
    return timedelta(days=terms.days if isinstance(terms, RetentionPolicy) else terms)


TASK: Final = Task("collect-orphans", Schedule("40 3 * * *", missed="skip"), collect, count, rest_factor=1)
