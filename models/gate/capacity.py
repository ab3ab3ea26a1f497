"""How many calls a provider takes: its ceiling, and what its quotas of this day have left."""

from dataclasses import dataclass
from typing import Final

from models.connections import Connection

_CAPACITY: Final = """
SELECT CASE WHEN p.state ? 'decreased_at' THEN (p.state ->> 'ceiling')::double precision END AS ceiling,
       coalesce(d.used, 0)::bigint AS requests_today, coalesce((d.state ->> 'images')::bigint, 0) AS images_today,
       extract(epoch FROM darkroom.day_end(now(), $2) - now())::double precision AS day_left_s
FROM darkroom.cell('provider', $1, 'epoch') p
CROSS JOIN darkroom.cell('provider_day', $1, darkroom.day_start(now(), $2)) d
"""


@dataclass(frozen=True, slots=True)
class ProviderCapacity:
    """What a provider takes now.

    Attributes:
        ceiling: how many calls may be in flight at a time; None as long as none was refused, because it doubles then
            whenever it is reached.
        requests_today: how many calls were made in the provider's day.
        images_today: how many pictures these were to make.
        day_left_s: how many seconds its day lasts.
    """

    ceiling: float | None
    requests_today: int
    images_today: int
    day_left_s: float


async def provider_capacity(connection: Connection, provider: str, zone: str) -> ProviderCapacity:
    """Return what a provider takes now, with its days in a time zone. Takes no lock."""
    row = await connection.fetchrow(_CAPACITY, provider, zone)
    if row is None:
        raise AssertionError("unreachable: a function that returns one row is joined with another")
    return ProviderCapacity(**row)
