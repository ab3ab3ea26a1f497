"""Reading all rows that the runs of claimed jobs need, by one statement for the jobs of a table claimed together."""

from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final, cast

import asyncpg

from config.values import value
from models.applications.registry import table_of
from models.collector import Collector
from models.connections import Connection, ContentionError
from models.database import Database
from models.database_retries import read_with_retries
from models.gate.provider_calls import Generation, generations_as_json, generations_of
from models.history.artifacts import Artifact, artifact_as_json, artifact_of
from models.job_tables.table import JobTable
from models.queue.checkpoints import OWN_TABLE, Json
from models.queue.claims import Claim, ClaimLostError
from models.queue.inputs import JobInputs

MOST_AT_ONCE: Final = 256
"""The most jobs whose rows one statement reads."""


@value
class JobRows:
    """The rows that the run of a claimed job needs.

    Attributes:
        inputs: what the job works on.
        kept: the outputs of finished stages that darkroom.checkpoints holds, by stage.
        artifact: a picture that an earlier attempt bought and stored; None if there is none, or `needs_artifact` was
            False.
        generations: the generate calls of the job's earlier runs, oldest first, open ones too.
    """

    inputs: JobInputs
    kept: Mapping[str, Json | None]
    artifact: Artifact | None
    generations: Sequence[Generation]


# Each job's rows are read by a subquery of its own, which OFFSET 0 keeps from being merged with the others: so whenever
# the plan is made, the rows of a job are found by its id, as by the statement for one job. The arrays are subqueries,
# so that their length doesn't make a plan for the jobs at hand look cheaper than the one that is kept: planning anew
# takes longer than reading eight jobs.
@lru_cache
def _select_many(table: JobTable) -> str:
    of_one_job = table.inputs.select.replace("$1", "asked.job_id").replace("$2", "asked.queue_id")
    kept_now, called_now = _of_this_life(table, "c.at"), _of_this_life(table, "p.started_at")
    made_now = _of_this_life(table, "a.created_at", "a.user_id")
    kept = f"""FROM {OWN_TABLE} c WHERE asked.needs_kept AND c.job_type = asked.job_type AND c.job_id = asked.job_id
        {kept_now}ORDER BY c.stage"""
    artifact = artifact_as_json("asked.job_type", "asked.job_id", made_now)
    return f"""
SELECT asked.place AS _place, ARRAY(SELECT c.stage {kept}) AS _stages, ARRAY(SELECT c.output {kept}) AS _outputs,
       CASE WHEN asked.needs_artifact THEN {artifact} END AS _artifact,
       {generations_as_json("asked.job_type", "asked.job_id", called_now)} AS _generations, r.*
FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::bigint[]), (SELECT $4::boolean[]),
            (SELECT $5::boolean[]))
    WITH ORDINALITY asked (job_type, job_id, queue_id, needs_kept, needs_artifact, place)
CROSS JOIN LATERAL ({of_one_job} OFFSET 0) r
"""


def _of_this_life(table: JobTable, at: str, user: str | None = None) -> str:
    """Return a further condition: a record is of the job in the queue, and of no earlier job that had the same id.

    What was recorded for the job at hand is no older than its queue row, and of its user.
    """
    if not table.ids_come_again:
        return ""
    of_user = f" AND q.user_id = {user}" if user else ""
    return (
        f" AND EXISTS (SELECT FROM darkroom.job_queue q\n"
        f"            WHERE q.id = asked.queue_id AND q.created_at <= {at}{of_user})\n        "
    )


@value
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


class JobReader:
    """Reads the rows of the jobs of one process.

    The rows of jobs that ask at one moment are read together. If PostgreSQL can't read the rows of one of them, only
    that one fails.
    """

    def __init__(self, database: Database) -> None:
        """Store where the rows are; the caller owns the database."""
        self._database = database
        self._readings: dict[JobTable, Collector[Asked, asyncpg.Record | None]] = {}

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
        table = table_of(claim.job_type)
        record = await self._reading_of(table).ask(Asked(claim, needs_kept, needs_artifact))
        if record is None:
            raise ClaimLostError(f"the row of job {claim.job_id} is gone")
        row = cast("Mapping[str, Any]", record)  # it has a mapping's methods, and a copy would take as long as `load`
        inputs = table.inputs.load(row)
        kept = dict(zip(row["_stages"], row["_outputs"], strict=True))
        artifact = None if row["_artifact"] is None else artifact_of(row["_artifact"])
        return JobRows(inputs, kept, artifact, generations_of(row["_generations"]))

    def _reading_of(self, table: JobTable) -> Collector[Asked, asyncpg.Record | None]:
        reading = self._readings.get(table)
        if reading is None:
            reading = self._readings[table] = Collector(
                partial(self._read_all, table),
                partial(self._read_one, table),
                most=MOST_AT_ONCE,
                turns=self._database.turns_to_wait,
                concerning_all=(ContentionError,),
                repeats_lost=True,
            )
        return reading

    async def _read_all(self, table: JobTable, asked: Sequence[Asked]) -> list[asyncpg.Record | None]:
        return await self._database.run(partial(read_rows, table=table, asked=asked))

    async def _read_one(self, table: JobTable, one: Asked) -> asyncpg.Record | None:
        return (await read_with_retries(self._database, partial(read_rows, table=table, asked=[one])))[0]
