"""Refusals: errors with which PostgreSQL refuses to write one job's row, and whether that row is the cause."""

from typing import Final, TypeAlias

import asyncpg

from models.connections import Connection, ContentionError, contention_of

MAX_WORDS_CHARS: Final = 500

CHECK_CONSTRAINTS_NOW: Final = "SET CONSTRAINTS ALL IMMEDIATE"
"""Statement that checks deferred constraints now, because an error at the commit would come too late to be handled."""

Refusal: TypeAlias = asyncpg.PostgresError | ContentionError
"""An error of a refused write of one job: PostgreSQL refused it, or a trigger on its row couldn't get a lock."""


def is_of_a_row(error: BaseException) -> bool:
    """Return whether a write that skips locked rows failed because of one of its rows, or a lock that a trigger needs.

    If a trigger got no lock, PostgreSQL's error has a context, which names the trigger. If it has none, the write
    itself waited in vain for the lock of a whole table, so no single row is the cause. `error` may be PostgreSQL's own
    error, or the one into which `Database` translated it.
    """
    contention = contention_of(error)
    if contention is not None:
        return bool(getattr(contention, "context", None))
    return isinstance(error, asyncpg.PostgresError)


def state_of(error: Refusal) -> str:
    """Return the SQLSTATE of a refusal; empty if PostgreSQL gave none."""
    return (error.cause if isinstance(error, ContentionError) else error).sqlstate or ""


def refusal_text(error: Refusal) -> str:
    """Return PostgreSQL's message and SQLSTATE, without its detail, which may quote the row."""
    said = error.cause if isinstance(error, ContentionError) else error
    message = " ".join(str(said.args[0] if said.args else said).split())[:MAX_WORDS_CHARS]
    return f"{message} (SQLSTATE {said.sqlstate})"


async def settle_refused_end(connection: Connection, job_type: str, job_id: str) -> bool:
    """Try once more to write a job's label and pay its refund, of which the database refused at least one.

    Return whether the job has both after this call.
    """
    return bool(await connection.fetchval("SELECT darkroom.settle_refused_end($1, $2)", job_type, job_id))
