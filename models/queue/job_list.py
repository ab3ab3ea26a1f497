"""Lists of jobs, the newest change first, of which a request looks at a limited number of rows."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from models.connections import Connection
from models.queue.job_branches import branches_for
from models.queue.job_filter import JobFilter
from models.queue.job_names import JobKey
from models.queue.job_sources import EARLIEST, Ended, Indexed, Queued, Remaining, Source

MOST_LOOKED_AT: Final = 1_000
"""So many rows are looked at for one page: each may be a block of its own to read."""

MOST_AT_A_STAGE: Final = 500
"""The same where a stage is asked for: the queue is asked about each row that shows none."""

_FIRST_ROWS: Final = 250
"""So many are read at first where the filter may leave most of them out."""


@dataclass(frozen=True, slots=True)
class Found:
    """Jobs that a filter selects, and how far the look went.

    Attributes:
        keys: the jobs, in the order of their changes, the newest first.
        looked_at: how many rows were looked at.
        back_to: the change, in UTC, up to which they were; None if nothing was.
        cursor: where the next look goes on; None if nothing is left.
    """

    keys: Sequence[JobKey]
    looked_at: int
    back_to: datetime | None
    cursor: str | None


async def look(
    connection: Connection,
    wanted: JobFilter,
    *,
    most: int,
    last_stages: Sequence[str],
    cursor: str | None = None,
    most_looked_at: int | None = None,
) -> Found:
    """Return up to so many of the jobs that a filter selects, behind a cursor.

    Args:
        connection: any connection.
        wanted: the filter.
        most: how many jobs.
        last_stages: the stages with which jobs end.
        cursor: as an earlier look returned it, for the same filter; None begins.
        most_looked_at: how many rows may be looked at, about; None for what a page may cost.

    Raises:
        ValueError: the cursor is none of these.
    """
    sources = await _sources(connection, wanted, last_stages, _decoded(cursor))
    found: list[JobKey] = []
    looked_at, back_to = 0, None
    if most_looked_at is None:
        most_looked_at = MOST_LOOKED_AT if wanted.stage is None else MOST_AT_A_STAGE
    chunk = max(most + 1, _FIRST_ROWS) if wanted.is_rare else most + 1
    while len(found) < most:
        # What remains has no time, so it comes once the others are over
        empty = [one for one in sources[:-1] if not one.rows and not one.is_done]
        if not empty and not any(one.rows for one in sources) and not sources[-1].is_done:
            empty = [sources[-1]]
        for one in empty:
            if looked_at >= most_looked_at:
                return Found(found, looked_at, back_to, _encoded(sources))
            looked_at += await one.fill(connection, min(chunk, most_looked_at))
        filled = [one for one in sources if one.rows]
        if not filled:
            if all(one.is_done for one in sources):
                break
            continue
        if any(not one.rows and not one.is_done for one in sources[:-1]):
            continue  # a window of the history had no such job, and the next may have a later one
        row = max(filled, key=lambda one: one.rows[0].at).take()
        back_to = back_to if row.at == EARLIEST else row.at.replace(tzinfo=UTC)
        if row.matches and row.key is not None:
            found.append(row.key)
    is_over = all(one.is_done and not one.rows for one in sources)
    return Found(found, looked_at, back_to, None if is_over else _encoded(sources))


async def _sources(
    connection: Connection, wanted: JobFilter, last_stages: Sequence[str], positions: Mapping[str, object]
) -> list[Source]:
    branches = await branches_for(connection, wanted)
    without = branches.without
    return [
        Indexed(branches.parts, wanted, positions.get("i")),
        Queued(without, wanted, positions.get("q")),
        Ended(without, wanted, last_stages, positions.get("e")),
        Remaining(without, wanted, last_stages, positions.get("r")),
    ]


_NAMES: Final = "iqer"


def _encoded(sources: Sequence[Source]) -> str:
    positions = {name: one.position() for name, one in zip(_NAMES, sources, strict=True)}
    return base64.urlsafe_b64encode(json.dumps(positions, separators=(",", ":")).encode()).decode().rstrip("=")


def _decoded(cursor: str | None) -> Mapping[str, Any]:
    """Return the positions that a cursor holds.

    Raises:
        ValueError: it holds none.
    """
    if cursor is None:
        return {}
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        positions = json.loads(text)
    except (binascii.Error, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ValueError("the cursor is none of a list of jobs") from error
    if not isinstance(positions, dict) or not all(_is_position(name, positions.get(name)) for name in _NAMES):
        raise ValueError("the cursor is none of a list of jobs")
    return positions


def _is_position(name: str, position: Any) -> bool:
    if position in (None, "end"):
        return True
    match name, position:
        case "i", [str() as at, dict() as taken]:
            try:
                is_time = datetime.fromisoformat(at).tzinfo is None
            except ValueError:
                return False
            numbers = [*taken, *taken.values()]
            return is_time and all(str(one).isdecimal() and len(str(one)) < 9 for one in numbers)  # noqa: PLR2004
        case "r", [int() as number, None | str()]:
            return 0 <= number < 1000  # noqa: PLR2004 - there are fewer job tables
        case (("q" | "e"), int()):
            return 0 <= position < 2**63
    return False
