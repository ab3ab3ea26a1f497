"""Tasks prune-TABLE: delete records that are older than their retention, one task for each table."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from config.periodic_terms import KEPT_FOREVER, RetentionPolicy
from models.periodic.retained_tables import TABLES, WEEKLY
from models.periodic.retention import (
    ForbiddenPolicyError,
    Policy,
    add_weeks,
    count_prunable,
    count_weeks,
    drop_week,
    next_rows,
    prune,
    prune_rows,
    require_allowed,
)
from pipelines.settings import Settings
from workers.periodic.refusals import FEW, permitted, permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

REST_FACTOR: Final = 1.5
"""Rest after a chunk, as a multiple of its duration: deletions aren't urgent, and jobs come first."""

ELSEWHERE: Final = frozenset({"temporary_objects"})
"""Names in DARKROOM_RETENTION that mean no table but inputs in storage, which task collect-orphans removes."""


def policy_of(table: str, terms: int | RetentionPolicy) -> Policy:
    """Return the policy of a setting: a number of days for a table of TABLES or WEEKLY, or a full policy for any other.

    Raises:
        ForbiddenPolicyError: the table is never deleted from, or isn't known and the policy names no time column.
    """
    if table in KEPT_FOREVER:
        raise ForbiddenPolicyError(f"retention must not name {table}: its rows are kept for ever")
    if isinstance(terms, RetentionPolicy):
        # For a table that Darkroom knows, a policy changes only the age: the condition for rows that may be deleted
        # stays
        name, column, where = {**TABLES, **WEEKLY}.get(table, (f"public.{table}", terms.column, terms.where))
        return Policy(name, column, timedelta(days=terms.days), where, is_ours=table in {**TABLES, **WEEKLY})
    if table not in {**TABLES, **WEEKLY}:
        raise ForbiddenPolicyError(
            f"retention of {table}: name its time column, as JSON: "
            f'{{"{table}": {{"column": "createdAt", "days": {terms}}}}}'
        )
    name, column, where = {**TABLES, **WEEKLY}[table]
    return Policy(name, column, timedelta(days=terms), where, is_ours=True)


def policies(settings: Settings) -> dict[str, Policy]:
    """Return every policy in the settings, by its table's bare name.

    Raises:
        ForbiddenPolicyError: one is invalid; then a scheduler doesn't start.
    """
    return {table: policy_of(table, terms) for table, terms in settings.retention.items() if table not in ELSEWHERE}


def tasks(settings: Settings) -> tuple[Task, ...]:
    """Return a task for each policy in the settings.

    Raises:
        ForbiddenPolicyError: a policy is invalid; then a scheduler doesn't start.
    """
    return tuple(_task(table, policy) for table, policy in policies(settings).items())


async def _prune_few(work: Work, task: str, policy: Policy, after: list[str] | None) -> Chunk:
    """Delete the next few rows, except those that the database refuses to delete."""
    rows = await next_rows(work.connection, policy, work.at, after, FEW)

    async def write(some: Sequence[list[str]]) -> Mapping[str, int]:
        return {"deleted": await prune_rows(work.connection, policy, work.at, some)}

    named = {f"{policy.table} of {row[0]}, tableoid {row[1]}, ctid {row[2]}": row for row in rows}
    counts = await permitted_rows(work, task, named, write)
    return Chunk({"step": "few", "after": rows[-1]} if len(rows) == FEW else None, counts)


def _task(table: str, policy: Policy) -> Task:
    async def chunk(work: Work) -> Chunk:
        cursor = work.cursor or {"step": "weeks" if table in WEEKLY else "rows", "after": None}
        if cursor["step"] == "weeks":
            made = await add_weeks(work.connection, table, work.at)
            return Chunk({"step": "drop", "after": None}, {"weeks_added": made})
        if cursor["step"] == "drop":
            dropped = await drop_week(work.connection, table, work.at - policy.age)
            return Chunk({"step": "drop" if dropped else "rows", "after": None}, {"weeks_dropped": int(bool(dropped))})
        # checked with each chunk, because a foreign key may be added while a scheduler runs
        await require_allowed(work.connection, policy, KEPT_FOREVER)
        if cursor["step"] == "few":
            return await _prune_few(work, f"prune-{table}", policy, cursor["after"])
        delete = partial(prune, work.connection, policy, work.at, cursor["after"], work.size)
        pruned = await permitted(work, delete)
        if pruned is None:
            return Chunk({"step": "few", "after": None}, {})
        left = {"step": "rows", "after": pruned.last} if pruned.last is not None else None
        return Chunk(left, {"deleted": pruned.deleted})

    async def count(work: Work) -> Mapping[str, int]:
        found = {"deleted": await count_prunable(work.connection, policy, work.at)}
        if table in WEEKLY:
            found["weeks_dropped"] = await count_weeks(work.connection, table, work.at - policy.age)
        return found

    needs = (f"{policy.table}.{policy.column}",)
    return Task(f"prune-{table}", Schedule("20 * * * *"), chunk, count, rest_factor=REST_FACTOR, needs=needs)
