"""Vouchers whose date has passed, or whose uses are all spent."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from models.connections import Connection

COLUMNS: Final = ("id", "status", "expiresAt", "currentUses", "maxUses", "updatedAt")
"""The columns of `public.vouchers` that the statements read."""

_IS_OVER: Final = """v.status = 'ACTIVE' AND (v."expiresAt" <= $1 OR v."currentUses" >= v."maxUses")"""
_NEXT: Final = f"SELECT v.id FROM public.vouchers v WHERE {_IS_OVER} AND v.id > $3 ORDER BY v.id LIMIT $2"
_EXPIRE: Final = f"""
WITH over AS MATERIALIZED (
    SELECT v.id FROM public.vouchers v WHERE {_IS_OVER} AND v.id = ANY ($2) ORDER BY v.id
    FOR NO KEY UPDATE SKIP LOCKED),
changed AS (
    UPDATE public.vouchers v
    SET status = CASE WHEN v."expiresAt" <= $1 THEN 'EXPIRED' ELSE 'DEPLETED' END::public."VoucherStatus",
        "updatedAt" = darkroom.utc_now()
    FROM over WHERE v.id = over.id RETURNING v.status)
SELECT count(*) FILTER (WHERE c.status = 'EXPIRED') AS expired,
       count(*) FILTER (WHERE c.status = 'DEPLETED') AS depleted
FROM changed c
"""
_COUNT: Final = f"""
SELECT count(*) FILTER (WHERE v."expiresAt" <= $1) AS expired,
       count(*) FILTER (WHERE v."expiresAt" > $1 OR v."expiresAt" IS NULL) AS depleted
FROM public.vouchers v WHERE {_IS_OVER}
"""


async def vouchers_over(connection: Connection, at_utc: datetime, after: str, most: int) -> Sequence[str]:
    """Return the ids of the next vouchers after `after` that are over at a time: expired, or without a use left."""
    return [row["id"] for row in await connection.fetch(_NEXT, at_utc, most, after)]


async def end_vouchers(connection: Connection, at_utc: datetime, ids: Sequence[str]) -> dict[str, int]:
    """Set the status of those vouchers that are over and not locked; return the counts `expired` and `depleted`."""
    return dict(await connection.fetchrow(_EXPIRE, at_utc, ids) or {})


async def count_vouchers_over(connection: Connection, at_utc: datetime) -> dict[str, int]:
    """Count the vouchers that would be `expired` and `depleted`."""
    return dict(await connection.fetchrow(_COUNT, at_utc) or {})
