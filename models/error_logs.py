"""One row of error_logs for each attempt that failed."""

from collections.abc import Mapping
from typing import Any

from models.database import Connection


async def log_error(
    connection: Connection,
    *,
    message: str,
    stack: str | None,
    user_id: str | None,
    route: str,
    error_type: str,
    metadata: Mapping[str, Any],
) -> None:
    """Write one error; the caller has taken secrets out of every text."""
    await connection.execute(
        """
        INSERT INTO public.error_logs
            (id, "timestamp", message, stack, "userId", route, environment, "errorType", "callerName", metadata)
        VALUES (darkroom.new_id(), darkroom.utc_now(), $1, $2, $3, $4, 'BACKEND', $5, 'darkroom', $6::jsonb)
        """,
        message.replace("\0", ""),
        None if stack is None else stack.replace("\0", ""),
        user_id,
        route,
        error_type,
        dict(metadata),
    )
