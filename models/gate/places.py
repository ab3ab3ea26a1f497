"""Places at a provider: how many more calls may be in flight, and which of the claims that wait for one are paused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from models.connections import Connection
from models.gate.provider_calls import Refused
from models.queue.claims import Claim

_PLACES: Final = "SELECT * FROM darkroom.places_now($1, $2, $3)"

# Nothing is read of the queue while nothing is paused
_PAUSED: Final = """
SELECT q.lease_token FROM (SELECT darkroom.setting('pauses') AS now) s
CROSS JOIN unnest($1::bigint[], $2::uuid[]) w (id, lease_token)
CROSS JOIN LATERAL (
    SELECT q.lease_token, q.queue, q.job_type, q.tier FROM darkroom.job_queue q
    WHERE s.now <> '{}' AND q.id = w.id AND q.lease_token = w.lease_token) q
WHERE s.now ? ('queue:' || q.queue) OR darkroom.pause_of(q.job_type, q.tier, s.now) IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class PlacesNow:
    """What a process that has calls for a provider should know.

    Attributes:
        refused: why no call may be made now; None if one may.
        places: how many more calls may be in flight than are now; 0 if another reason than `concurrency` refuses them.
        ceiling: how many calls may be in flight in all; 0 as `places`.
        admitted: how many calls to the provider all processes have ever made.
        is_free_elsewhere: whether a process with other limits may make a call although this one may not.
    """

    refused: Refused | None
    places: int
    ceiling: int
    admitted: int
    is_free_elsewhere: bool


async def places_now(connection: Connection, provider: str, rules: Mapping[str, Any], images: int) -> PlacesNow:
    """Return how many calls that make so many images may be made to a paid provider now. Takes no lock."""
    row = await connection.fetchrow(_PLACES, provider, images, dict(rules))
    if row is None:
        raise RuntimeError("darkroom.places_now returned no row")
    refused = None if row["kind"] is None else Refused(row["kind"], row["reason"], row["wait_s"])
    return PlacesNow(
        refused, max(0, row["places"] or 0), row["ceiling"] or 0, row["admitted"], row["is_free_elsewhere"]
    )


async def paused_claims(connection: Connection, claims: Sequence[Claim]) -> set[UUID]:
    """Return the lease tokens of those claims whose queue, job type or tier an operator has paused."""
    ids, tokens = [claim.id for claim in claims], [claim.lease_token for claim in claims]
    return {row["lease_token"] for row in await connection.fetch(_PAUSED, ids, tokens)}
