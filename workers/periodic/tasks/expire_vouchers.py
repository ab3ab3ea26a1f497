"""Vouchers whose date has passed, or whose uses are spent."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from workers.periodic.refusals import FEW, permitted, permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work

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


async def expire(work: Work) -> Chunk:
    """End the next vouchers; one that is being redeemed now waits for the next tick, as one does that is refused."""
    cursor = work.cursor or {"after": "", "is_small": False}
    size = FEW if cursor["is_small"] else work.size
    ids = [row["id"] for row in await work.connection.fetch(_NEXT, work.at_utc, size, cursor["after"])]
    if not ids:
        return Chunk(None, {"expired": 0, "depleted": 0})

    async def write(some: Sequence[str]) -> Mapping[str, int]:
        return dict(await work.connection.fetchrow(_EXPIRE, work.at_utc, some) or {})

    if size > FEW:
        counts = await permitted(work, partial(write, ids))
        if counts is None:  # from here on by few, so that one by one isn't for thousands
            return Chunk({**cursor, "is_small": True}, {})
    else:
        counts = await permitted_rows(work, TASK.name, {id_: id_ for id_ in ids}, write)
    return Chunk({**cursor, "after": ids[-1]} if len(ids) == size else None, counts)


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
