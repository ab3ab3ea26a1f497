"""Objects that no row refers to, and inputs whose job is long over: reported first, removed by a later run."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from config.periodic_terms import RETENTION_DAYS, RetentionPolicy
from models.periodic.orphans import finished_inputs, remember_orphans, unreferenced
from pipelines.keys import OUR_PREFIXES
from pipelines.storage.storage import ListedObject
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

YOUNGEST: Final = timedelta(days=1)
"""Younger objects may be somebody's work in hand: stored first, written to a row after."""

INPUTS: Final = "mcp-input/"


async def collect(work: Work) -> Chunk:
    """Look at the next page of objects; a page is listed while the tick is locked, so that no other run lists it too.

    Removing is idempotent: a chunk that is lost before its commit is done again.
    """
    cursor = work.cursor or {"prefix": 0, "after": ""}
    page = await work.storage.list_objects(OUR_PREFIXES[cursor["prefix"]], after=cursor["after"], most=work.size)
    removable, reported, temporary = await _sorted(work, page)
    for key in (*removable, *temporary):
        await work.storage.delete(key)
    sizes = {listed.key: listed.size_bytes for listed in page}
    counts = {
        "listed": len(page),
        "reported": reported,
        "removed": len(removable),
        "temporary": len(temporary),
        "removed_bytes": sum(sizes[key] for key in (*removable, *temporary)),
    }
    if len(page) == work.size:
        return Chunk({"prefix": cursor["prefix"], "after": page[-1].key}, counts)
    following = cursor["prefix"] + 1
    return Chunk({"prefix": following, "after": ""} if following < len(OUR_PREFIXES) else None, counts)


async def _sorted(work: Work, page: Sequence[ListedObject]) -> tuple[list[str], int, list[str]]:
    """Return the orphans that an earlier run has reported, how many are new, and the inputs that are over."""
    old = {listed.key: listed for listed in page if listed.modified_at <= work.at - YOUNGEST}
    alone = await unreferenced(work.connection, list(old))
    removable, reported = await remember_orphans(work.connection, [old[key] for key in alone], work.at)
    inputs = [key for key in old if key.startswith(INPUTS) and key not in alone]
    temporary = await finished_inputs(work.connection, inputs, work.at_utc - _input_age(work)) if inputs else []
    return removable, reported, temporary


def _input_age(work: Work) -> timedelta:
    terms = work.settings.retention.get("temporary_objects", RETENTION_DAYS["temporary_objects"])
    return timedelta(days=terms.days if isinstance(terms, RetentionPolicy) else terms)


async def count(work: Work) -> Mapping[str, int]:
    """Count orphans and inputs that are over, without reporting or removing one."""
    counts = {"listed": 0, "orphans": 0, "orphan_bytes": 0}
    for prefix in OUR_PREFIXES:
        after = ""
        while page := await work.storage.list_objects(prefix, after=after, most=work.size):
            after = page[-1].key
            old = {listed.key: listed for listed in page if listed.modified_at <= work.at - YOUNGEST}
            alone = await unreferenced(work.connection, list(old))
            counts["listed"] += len(page)
            counts["orphans"] += len(alone)
            counts["orphan_bytes"] += sum(old[key].size_bytes for key in alone)
    return counts


TASK: Final = Task("collect-orphans", Schedule("40 3 * * *", missed="skip"), collect, count, rest_factor=1)
