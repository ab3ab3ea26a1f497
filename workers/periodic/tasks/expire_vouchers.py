"""Vouchers whose date has passed, or whose uses are spent."""

from collections.abc import Mapping
from typing import Final

from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

_IS_OVER: Final = """v.status = 'ACTIVE' AND (v."expiresAt" <= $1 OR v."currentUses" >= v."maxUses")"""
_EXPIRE: Final = f"""
WITH over AS MATERIALIZED (
    SELECT v.id FROM public.vouchers v WHERE {_IS_OVER} ORDER BY v.id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED),
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


async def expire(work: Work) -> Chunk:
    """End the next vouchers; one that is being redeemed now waits for the next tick."""
    row = await work.connection.fetchrow(_EXPIRE, work.at_utc, work.size)
    counts = dict(row or {})
    return Chunk({"more": True} if sum(counts.values()) == work.size else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count what a tick would end."""
    return dict(await work.connection.fetchrow(_COUNT, work.at_utc) or {})


_COLUMNS: Final = ("id", "status", "expiresAt", "currentUses", "maxUses", "updatedAt")
TASK: Final = Task(
    "expire-vouchers",
    Schedule("*/15 * * * *"),
    expire,
    count,
    needs=tuple(f"public.vouchers.{column}" for column in _COLUMNS),
)
