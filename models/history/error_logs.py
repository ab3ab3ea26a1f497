"""Rows in error_logs, one for each failed attempt. If a row can't be written, its job isn't affected."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from config.job_terms import MAX_EVIDENCE_CHARS
from config.logger import EventLogger
from models.applications.registry import is_of_pictures
from models.connections import DATABASE_ERRORS
from models.database import Database

log = EventLogger(__name__)

TIMEOUT_S = 1.0
"""How long the end of a job waits for its error log row: the table may be locked, or a trigger on it slow."""

MAX_MESSAGE_CHARS = 2_000
MAX_STACK_CHARS = 16_000

_INSERT = """
INSERT INTO public.error_logs
    (id, "timestamp", message, stack, "userId", route, environment, "errorType", "errorCode", "callerName", metadata)
SELECT darkroom.new_id(), darkroom.utc_now(), e.message, e.stack, e.user_id, e.route, 'BACKEND', e.type, e.code,
       'darkroom', e.metadata
FROM jsonb_to_recordset($1) AS e (message text, stack text, user_id text, route text, type text, code text,
                                  metadata jsonb)
"""


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt that failed, and why. The caller has masked secrets in every text.

    `code` is a constant word, for counting and alerts. `evidence` is text that another program sent.
    """

    job_type: str
    job_id: str
    user_id: str
    stage: str
    attempt: int
    message: str
    type: str
    code: str
    stack: str | None = None
    evidence: str | None = None


async def log_failed_attempts(database: Database, failures: Sequence[FailedAttempt]) -> None:
    """Write one row for each failure, in one statement. Rows that can't be written within TIMEOUT_S are only logged.

    Only the application `pictures` has such a log; failures of other applications' jobs are left out. Never raises.
    """
    rows = [_row(failure) for failure in failures if is_of_pictures(failure.job_type)]
    if not rows:
        return
    refused = await _written(database, rows)
    if refused is not None and len(rows) > 1 and isinstance(refused, asyncpg.PostgresError):
        for row in rows:  # one row broke a rule of the application's, so they are written one by one
            refused = await _written(database, [row])
            if refused is not None:
                _complain(1, refused)
    elif refused is not None:
        _complain(len(rows), refused)


async def _written(database: Database, rows: list[dict[str, Any]]) -> Exception | None:
    """Write rows; return the error that prevented it, or None."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await database.commit("log_error", lambda connection: connection.execute(_INSERT, rows))
    except DATABASE_ERRORS as error:  # a row that can't be written is only logged
        return error
    return None


def _complain(count: int, error: Exception) -> None:
    log.warning("error_log_failed", count=count, error=str(error), error_type=type(error).__name__)


def _row(failure: FailedAttempt) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "jobId": failure.job_id,
        "jobType": failure.job_type,
        "stage": failure.stage,
        "attempt": failure.attempt,
    }
    if failure.evidence:
        metadata["evidence"] = _text(failure.evidence)[:MAX_EVIDENCE_CHARS]
    return {
        "message": _text(failure.message)[:MAX_MESSAGE_CHARS],
        "stack": None if failure.stack is None else _text(failure.stack)[-MAX_STACK_CHARS:],
        "user_id": failure.user_id,
        "route": f"darkroom/{failure.job_type}/{failure.stage}",
        "type": failure.type,
        "code": failure.code,
        "metadata": metadata,
    }


def _text(text: str) -> str:
    """Return a text without the characters that PostgreSQL can't store.

    Other programs' texts may contain such characters: NULs and lone surrogates.
    """
    return text.replace("\0", "").encode(errors="replace").decode()
