"""Checks that count faulty rows, by one query each: their names, messages and advice."""

from dataclasses import dataclass
from typing import Final, Literal

import asyncpg

from models.connections import ContentionError, DatabaseLostError
from models.database import Database
from models.history.findings import Finding, look_for
from workers.operations.checks.check import Check


@dataclass(frozen=True, slots=True)
class RowCheck:
    """Name, messages and advice of one check of rows."""

    name: Finding
    none: str
    found: str
    advice: str
    status: Literal["warn", "fail"] = "warn"


ROW_CHECKS: Final = (
    RowCheck(
        "leases",
        "every claim belongs to a live worker",
        "claims of dead workers that wait for rescue: {count}, one is job {example}",
        "start `darkroom worker` or `darkroom scheduler`: either rescues them",
    ),
    RowCheck(
        "queues of workers",
        "no worker waits at a queue that no job enters",
        "live workers at a queue that no job enters: {count}, one is {example}",
        "stop them: jobs enter queue default and those that DARKROOM_STAGE_QUEUES named at `darkroom db upgrade`",
        "fail",
    ),
    RowCheck(
        "stuck jobs",
        "no stage is past its deadline",
        "jobs past their stage's deadline: {count}, one is job {example}",
        "start `darkroom scheduler`, which rescues them; `darkroom jobs explain` says where they are",
    ),
    RowCheck(
        "quarantined jobs",
        "none in the last 7 days",
        "jobs that killed their workers in the last 7 days and were ended, refunded: {count}, one is job {example}",
        "`darkroom jobs explain` one; when the cause is mended, `darkroom jobs retry --error quarantined --since 7d`",
    ),
    RowCheck(
        "refused jobs",
        "the database refuses no job",
        "jobs that the database refuses and that wait: {count}, one is job {example}",
        "mend the rule that PostgreSQL names, or cancel them: they are tried again, and end refunded at last",
        "fail",
    ),
    RowCheck(
        "refused ends",
        "every job that is over says so",
        "jobs that are over and whose rows can't say so: {count}, {example}",
        "mend the rule that PostgreSQL names; a scheduler tries the labels again each hour",
        "fail",
    ),
    RowCheck(
        "refunds owed",
        "none",
        "refunds that couldn't be paid and are owed: {count}, {example}",
        "mend what PostgreSQL names, then `darkroom tokens audit --repair`",
        "fail",
    ),
    RowCheck(
        "models of pipelines",
        "every model that a pipeline names may be asked",
        "pipelines with models that can't be asked: {count}, one is {example}",
        "their jobs are refused: name other models, or give these a price",
    ),
    RowCheck(
        "provider calls",
        "no intent is left open",
        "provider calls that were begun and never closed: {count}, one for job {example}",
        "a worker died in them; they may have been paid: compare `darkroom costs --open` with the provider's bill, "
        "then `darkroom costs --acknowledge CALL`",
    ),
    RowCheck(
        "pauses",
        "nothing is paused",
        "pauses by operators: {count}, one is {example}",
        "`darkroom queue stats` lists them, `darkroom queue resume` ends them (`darkroom costs --resume` for buying)",
    ),
    RowCheck(
        "breakers",
        "every provider takes calls",
        "providers left alone for now: {count}, one is {example}",
        "mend what is named (key, billing, model); it is tried again by itself, and at once after "
        "`darkroom queue resume --provider NAME`",
    ),
    RowCheck(
        "periodic tasks",
        "no tick failed in the last day",
        "ticks that failed for good in the last day: {count}, one of {example}",
        "`darkroom schedule list` shows them; mend the cause, then `darkroom schedule run NAME`",
    ),
    RowCheck(
        "rows of periodic tasks",
        "the last ticks left no row as it was",
        "tasks that had to leave rows that the database refuses to change: {count}, one is {example}",
        "the scheduler's log names them with PostgreSQL's words (periodic_row_refused); the others were treated",
    ),
    RowCheck(
        "money",
        "balances and ledger agree, every refund has its charge",
        "breaches of the money promises: {count}, one is {example}",
        "`darkroom tokens audit` names them all, and `--repair` sets right what costs nobody a token",
        "fail",
    ),
)


async def count_rows(database: Database, row_check: RowCheck) -> Check:
    """Run one query, and report what it counted; a query that fails is reported as a failure."""
    try:
        found = await database.run(lambda connection: look_for(connection, row_check.name))
    except (asyncpg.PostgresError, asyncpg.InterfaceError, DatabaseLostError, ContentionError, OSError) as error:
        is_lost = isinstance(error, DatabaseLostError)
        advice = "PostgreSQL went away: try again" if is_lost else "see the PostgreSQL log"
        return Check(row_check.name, "fail", f"couldn't be looked at: {error}", advice)
    if not found.count:
        return Check(row_check.name, "ok", row_check.none)
    message = row_check.found.format(count=f"{found.count:,}", example=found.example)
    return Check(row_check.name, row_check.status, message, row_check.advice)
