"""Task expire-vouchers: ends vouchers whose date has passed, or whose uses are all spent."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from models.periodic.vouchers import COLUMNS, count_vouchers_over, end_vouchers, vouchers_over
from workers.periodic.refusals import FEW, permitted, permitted_rows
from workers.periodic.schedule import Schedule
from workers.periodic.task import Chunk, Task, Work


async def expire(work: Work) -> Chunk:
    """End the next vouchers.

    A voucher that a user redeems at this moment, or whose change the database refuses, is left to the next tick.
    """
    cursor = work.cursor or {"after": "", "is_small": False}
    size = FEW if cursor["is_small"] else work.size
    ids = await vouchers_over(work.connection, work.at_utc, cursor["after"], size)
    if not ids:
        return Chunk(None, {"expired": 0, "depleted": 0})

    async def write(some: Sequence[str]) -> Mapping[str, int]:
        return await end_vouchers(work.connection, work.at_utc, some)

    if size > FEW:
        counts = await permitted(work, partial(write, ids))
        if counts is None:  # further chunks are small, so that not thousands of vouchers are tried one by one
            return Chunk({**cursor, "is_small": True}, {})
    else:
        counts = await permitted_rows(work, TASK.name, {id_: id_ for id_ in ids}, write)
    return Chunk({**cursor, "after": ids[-1]} if len(ids) == size else None, counts)


async def count(work: Work) -> Mapping[str, int]:
    """Count the vouchers that a tick would end."""
    return await count_vouchers_over(work.connection, work.at_utc)


TASK: Final = Task(
    "expire-vouchers",
    Schedule("*/15 * * * *"),
    expire,
    count,
    needs=tuple(f"public.vouchers.{column}" for column in COLUMNS),
)
