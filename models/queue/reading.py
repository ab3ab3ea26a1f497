"""Reading all rows that the runs of claimed jobs need, by one statement for the jobs of a table claimed together."""

import asyncio
from collections.abc import Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

import asyncpg

from models.connections import Connection
from models.database import Database
from models.database_retries import read_with_retries
from models.history.artifacts import Artifact, artifact_as_json, artifact_of
from models.job_tables.registry import table_of
from models.job_tables.table import JobTable
from models.queue.checkpoints import OWN_TABLE, Json, outputs_left
from models.queue.claims import Claim, ClaimLostError
from models.queue.inputs import JobInputs


@dataclass(frozen=True, slots=True)
class JobRows:
    """The rows that the run of a claimed job needs.

    Attributes:
        inputs: what the job works on.
        left: stored outputs of finished stages, by stage.
        artifact: a picture that an earlier attempt bought and stored; None if there is none, or `needs_artifact` was
            False.
    """

    inputs: JobInputs
    left: Mapping[str, Json | None]
    artifact: Artifact | None


# Each job's rows are read by a subquery of its own, which OFFSET 0 keeps from being merged with the others: so whenever
# the plan is made, the rows of a job are found by its id, as by the statement for one job.
@lru_cache
def _select_many(table: JobTable) -> str:
    of_one_job = table.inputs.select.replace("$1", "asked.job_id").replace("$2", "asked.queue_id")
    kept = f"""FROM {OWN_TABLE} c WHERE asked.needs_kept AND c.job_type = asked.job_type AND c.job_id = asked.job_id
        ORDER BY c.stage"""
    return f"""
SELECT asked.place AS _place, ARRAY(SELECT c.stage {kept}) AS _stages, ARRAY(SELECT c.output {kept}) AS _outputs,
       CASE WHEN asked.needs_artifact THEN {artifact_as_json("asked.job_type", "asked.job_id")} END AS _artifact, r.*
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::boolean[])
    WITH ORDINALITY asked (job_type, job_id, queue_id, needs_kept, needs_artifact, place)
CROSS JOIN LATERAL ({of_one_job} OFFSET 0) r
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A job whose rows are asked for, and what else than its inputs is needed, as in `JobReader.read`."""

    claim: Claim
    needs_kept: bool
    needs_artifact: bool


async def read_rows(connection: Connection, table: JobTable, asked: Sequence[Asked]) -> list[asyncpg.Record | None]:
    """Return a record with the rows of each job of one table; None for a job whose row is deleted.

    Raises:
        asyncpg.PostgresError: the rows of some job can't be read.
    """
    records: list[asyncpg.Record | None] = [None] * len(asked)
    for record in await connection.fetch(
        _select_many(table),
        [one.claim.job_type for one in asked],
        [one.claim.job_id for one in asked],
        [one.claim.id for one in asked],
        [one.needs_kept for one in asked],
        [one.needs_artifact for one in asked],
    ):
        records[record["_place"] - 1] = record
    return records


_Found: TypeAlias = "asyncio.Future[asyncpg.Record | None]"
_Reading: TypeAlias = "asyncio.Task[list[asyncpg.Record | None]]"


class JobReader:
    """Reads the rows of the jobs of one process.

    Jobs that are claimed together ask in the same turn of the event loop, and their rows are read together, without
    waiting for further ones. If PostgreSQL can't read the rows of one of them, each is read by itself, so that only
    that one fails.
    """

    def __init__(self, database: Database) -> None:
        """Store where the rows are; the caller owns the database."""
        self._database = database
        self._asked: list[tuple[Asked, _Found]] = []
        self._readings: set[_Reading] = set()

    async def read(self, claim: Claim, *, needs_kept: bool, needs_artifact: bool) -> JobRows:
        """Return the rows that the run of a claimed job needs. While PostgreSQL is unreachable, wait and repeat it.

        Args:
            claim: the claim of the job.
            needs_kept: whether the job's row has no columns for the output of some earlier stage, so that
                darkroom.checkpoints has to be read.
            needs_artifact: whether a picture may have been stored for the job already.

        Raises:
            ClaimLostError: the job's row is deleted.
            ContentionError, asyncpg.PostgresError: PostgreSQL can't read the rows.
        """
        loop = asyncio.get_running_loop()
        found: _Found = loop.create_future()
        if not self._asked:
            loop.call_soon(self._start, context=Context())  # what is logged of many jobs isn't of the first one
        self._asked.append((Asked(claim, needs_kept, needs_artifact), found))
        record = await found
        if record is None:
            raise ClaimLostError(f"the row of job {claim.job_id} is gone")
        row = dict(record)
        inputs = table_of(claim.job_type).inputs.load(row)
        kept = dict(zip(row["_stages"], row["_outputs"], strict=True))
        artifact = None if row["_artifact"] is None else artifact_of(row["_artifact"])
        return JobRows(inputs, outputs_left(claim.job_type, inputs.checkpoints, kept), artifact)

    def _start(self) -> None:
        by_table: dict[JobTable, list[tuple[Asked, _Found]]] = {}
        for one in self._asked:
            by_table.setdefault(table_of(one[0].claim.job_type), []).append(one)
        self._asked = []
        for table, group in by_table.items():
            self._start_reading(table, group)

    def _start_reading(self, table: JobTable, group: Sequence[tuple[Asked, _Found]]) -> None:
        work = partial(read_rows, table=table, asked=[one for one, _ in group])
        reading = asyncio.create_task(read_with_retries(self._database, work), name=f"read {table.rows}")
        self._readings.add(reading)
        reading.add_done_callback(partial(self._give, table, group))
        awaited = {found for _, found in group}
        for found in awaited:
            found.add_done_callback(partial(_end_unless_awaited, reading, awaited))

    def _give(self, table: JobTable, group: Sequence[tuple[Asked, _Found]], reading: _Reading) -> None:
        """Give each job that waits its rows, or the error; if a row of one can't be read, read each job by itself."""
        self._readings.discard(reading)
        waiting = [(number, one) for number, one in enumerate(group) if not one[1].done()]
        error = None if reading.cancelled() else reading.exception()
        if isinstance(error, asyncpg.PostgresError) and len(group) > 1:
            for _, one in waiting:
                self._start_reading(table, [one])
            return
        for number, (_, found) in waiting:
            if reading.cancelled():
                found.cancel()
            elif error is not None:
                found.set_exception(error)
            else:
                found.set_result(reading.result()[number])


def _end_unless_awaited(reading: _Reading, awaited: set[_Found], found: _Found) -> None:
    """Stop reading once no job waits for it any more, as when all of them were told to end."""
    awaited.discard(found)
    if not awaited:
        reading.cancel()
