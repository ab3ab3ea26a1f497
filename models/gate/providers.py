"""How providers are now: whether each may be called, its throttling, its breaker, and what was asked of it today."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from models.connections import Connection
from models.gate.provider_calls import Refused

Breaker = Literal["closed", "open", "half open"]

# The answers of `darkroom.call_wait` without a payer, and of `darkroom.pause_wait` for providers whose calls are free
_STATES: Final = """
SELECT k.name, w.wait_s, w.kind, w.reason, t.until AS throttled_until, b.until AS breaker_until,
       CASE WHEN b.until IS NULL THEN 'closed' WHEN b.until > now() THEN 'open' ELSE 'half open' END AS breaker,
       CASE WHEN b.until IS NOT NULL THEN c.state ->> 'open_reason' END AS breaker_reason,
       coalesce((c.state ->> 'in_flight')::integer, 0) AS in_flight, coalesce(d.used, 0)::bigint AS requests_today,
       coalesce((d.state ->> 'images')::bigint, 0) AS images_today
FROM jsonb_to_recordset($1) k (name text, is_paid boolean, rules jsonb, zone text, place integer)
CROSS JOIN LATERAL darkroom.cell('provider', k.name, 'epoch') c
CROSS JOIN LATERAL darkroom.cell('provider_day', k.name, darkroom.day_start(now(), k.zone)) d
CROSS JOIN LATERAL (SELECT p.* FROM darkroom.call_wait(k.name, NULL, 0.000001, 1, k.rules) p WHERE k.is_paid
                    UNION ALL SELECT p.* FROM darkroom.pause_wait(k.name) p WHERE NOT k.is_paid) w
CROSS JOIN LATERAL (SELECT nullif(greatest((c.state ->> 'paused_until')::timestamptz, now()), now()) AS until) t
CROSS JOIN LATERAL (SELECT (c.state ->> 'open_until')::timestamptz AS until) b
ORDER BY k.place
"""


@dataclass(frozen=True, slots=True)
class AskedProvider:
    """A provider of which the state is asked.

    Attributes:
        name: its name.
        is_paid: whether its calls are paid.
        rules: its rules, as `darkroom.open_call` reads them.
        zone: the time zone of its days.
    """

    name: str
    is_paid: bool
    rules: Mapping[str, Any]
    zone: str


@dataclass(frozen=True, slots=True)
class ProviderState:
    """How a provider is now.

    Attributes:
        name: its name.
        refused: why no job may call it; None if some job may.
        throttled_until: until when it has asked not to be called; None if it hasn't.
        breaker: of calls to it. While it is half open, one call tries the provider.
        breaker_until: when an open breaker lets a call try.
        breaker_reason: why it isn't closed.
        in_flight: how many paid calls are in flight, as the gate counts them: calls of dead workers may be among them.
        requests_today: how many paid calls were made in its day.
        images_today: how many pictures these were to make.
    """

    name: str
    refused: Refused | None
    throttled_until: datetime | None
    breaker: Breaker
    breaker_until: datetime | None
    breaker_reason: str | None
    in_flight: int
    requests_today: int
    images_today: int


async def provider_states(connection: Connection, asked: Sequence[AskedProvider]) -> list[ProviderState]:
    """Return how some providers are now, in their order. Takes no lock."""
    objects = [
        {"name": one.name, "is_paid": one.is_paid, "rules": dict(one.rules), "zone": one.zone, "place": place}
        for place, one in enumerate(asked)
    ]
    found = []
    for row in await connection.fetch(_STATES, objects):
        values = dict(row)
        wait_s, kind, reason = (values.pop(name) for name in ("wait_s", "kind", "reason"))
        found.append(ProviderState(**values, refused=None if kind is None else Refused(kind, reason, wait_s)))
    return found
