"""What PostgreSQL said where it refuses to write one job's row, and whether it said it of that row."""

from typing import Final, TypeAlias

import asyncpg

from models.connections import Connection, ContentionError, contention_of

MAX_WORDS_CHARS: Final = 500

Refusal: TypeAlias = asyncpg.PostgresError | ContentionError
"""Why a write of one job failed: PostgreSQL refuses it, or a trigger of its row didn't get a lock."""


def is_of_a_row(error: BaseException) -> bool:
    """Say whether a write that skips locked rows failed for one of its rows: also by a lock that a trigger didn't get.

    Such an error names its place. The write itself waits for tables alone, and those are everybody's. An error that was
    caught inside a transaction is judged as well as one that `Database` has translated.
    """
    contention = contention_of(error)
    if contention is not None:
        return bool(getattr(contention, "context", None))
    return isinstance(error, asyncpg.PostgresError)


def state_of(error: Refusal) -> str:
    """Return the SQLSTATE; empty if PostgreSQL named none."""
    return (error.cause if isinstance(error, ContentionError) else error).sqlstate or ""


def words_of(error: Refusal) -> str:
    """Return PostgreSQL's message and SQLSTATE; not its detail, which may quote the row."""
    said = error.cause if isinstance(error, ContentionError) else error
    message = " ".join(str(said.args[0] if said.args else said).split())[:MAX_WORDS_CHARS]
    return f"{message} (SQLSTATE {said.sqlstate})"


async def settle_refused_end(connection: Connection, job_type: str, job_id: str) -> bool:
    """Try once more to write the label and to pay the refund that were refused; say whether nothing is left of it."""
    return bool(await connection.fetchval("SELECT darkroom.settle_refused_end($1, $2)", job_type, job_id))
