"""Events of many claims, written by a process's group writer, and a look at the statements by which it does so."""

import asyncio
import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from models.applications.registry import table_of
from models.connections import DATABASE_ERRORS
from models.database import Database
from models.history.artifacts import Artifact, record_artifact
from models.queue.claims import Claim, ClaimLostError
from models.queue.groups import GroupWriter
from models.queue.transitions import record
from models.queue.writing import Event
from tests.support.builders import all_rows
from tests.support.patience import HANGS_AFTER_S

HOUR_S = 3_600


class Lane:
    """A job that waits: how often it has left its lane."""

    def __init__(self) -> None:
        self.left = 0

    def leave_lane(self) -> None:
        self.left += 1

    def take_lane(self) -> None:
        pass


class Write(NamedTuple):
    """An event of a claim."""

    claim: Claim
    event: Event


def add_all(writer: GroupWriter, writes: list[Write]) -> "list[asyncio.Future[None]]":
    """Send events at the same moment."""
    return [writer.add(claim, event, waiting=Lane()) for claim, event in writes]


async def write_all(writer: GroupWriter, writes: list[Write]) -> list[BaseException | None]:
    """Send events at the same moment; return the error of each, or None."""
    futures = add_all(writer, writes)
    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.wait(futures)
    return [future.exception() for future in futures]


async def write_one_by_one(database: Database, writes: list[Write]) -> list[BaseException | None]:
    """Write events without a group; return the error of each, or None."""
    errors: list[BaseException | None] = []
    for claim, event in writes:
        try:
            if isinstance(event, Artifact):
                await database.run(lambda c, claim=claim, event=event: record_artifact(c, claim, event))
            else:
                await database.run(lambda c, claim=claim, event=event: record(c, claim, event))
        except (*DATABASE_ERRORS, ClaimLostError) as error:
            errors.append(error)
        else:
            errors.append(None)
    return errors


async def rows_of(database: Database, claim: Claim) -> dict[str, list[str]]:
    """Return every row of a job's, as text, by table: for comparing before and after."""
    rows = await all_rows(database)
    return {table: [row for row in those if claim.job_id in row] for table, those in rows.items()}


_TABLES = ("job_queue", "job_money", "stage_runs", "provider_calls", "artifacts", "checkpoints")


async def facts_of(database: Database, claim: Claim) -> dict[str, list[dict[str, Any]]]:
    """Return every row of a job's by table, with nothing in it that differs between two jobs of the same course.

    Times are hours from now. The history is in its order, and other tables in that of their text.
    """
    job = table_of(claim.job_type)
    found = {}
    for table in (job.name, *(f"darkroom.{name}" for name in _TABLES)):
        key = job.id_column if table == job.name else "job_id"
        rows = await database.fetch(f"SELECT to_jsonb(t) AS row FROM {table} t WHERE t.{key}::text = $1", claim.job_id)
        by_id = sorted((row["row"] for row in rows), key=lambda row: row.get("id", 0))
        facts = [_without_names(row, claim) for row in by_id]
        is_history = table == "darkroom.stage_runs"
        found[table] = facts if is_history else sorted(facts, key=lambda row: json.dumps(row, sort_keys=True))
    return found


def _without_names(row: dict[str, Any], claim: Claim) -> dict[str, Any]:
    names = {claim.user_id: "USER", str(claim.worker_id): "WORKER", str(claim.lease_token): "TOKEN"}
    return {
        key: "JOB" if key == "job_id" else _hours(names.get(value, value)) if isinstance(value, str) else value
        for key, value in row.items()
        if key not in {"id", "position", "imageId"}
    }


def _hours(text: str) -> str:
    if not re.match(r"\d{4}-\d\d-\d\dT", text):
        return text
    at = datetime.fromisoformat(text)
    hours = round((at.replace(tzinfo=at.tzinfo or UTC) - datetime.now(UTC)).total_seconds() / HOUR_S)
    return f"{hours} h from now"
