"""Costs of provider calls, and the budgets in which they are counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final, Literal

from models.connections import Connection

By = Literal["user", "model", "day", "job"]
Types = Sequence[str] | None

_COLUMNS: Final[Mapping[By, str]] = {
    "user": """c.payer AS "user\"""",
    "model": "c.provider, c.model",
    "job": "c.job_type AS type, c.job_id AS job",
    "day": "date_trunc('day', c.started_at AT TIME ZONE 'utc')::date::text AS day",
}

# A call costs what the provider said. If it said nothing and the call may have been paid, the price table's price
# counts.
_COSTS: Final = """
SELECT {columns}, count(*) AS calls, count(*) FILTER (WHERE c.outcome = 'answered') AS answered,
       count(*) FILTER (WHERE c.outcome = 'open') AS open,
       coalesce(sum(c.images), 0) AS images, coalesce(sum(c.prompt_units), 0) AS prompt_units,
       coalesce(sum(c.output_units), 0) AS output_units,
       coalesce(sum(coalesce(c.cost_usd, CASE WHEN c.may_be_paid THEN c.quoted_usd ELSE 0 END)), 0) AS cost_usd
FROM darkroom.provider_calls c
WHERE c.payer IS NOT NULL AND c.started_at >= now() - make_interval(days => $1) AND ($3::text IS NULL OR c.job_id = $3)
  AND ($4::text[] IS NULL OR c.job_type = ANY ($4))
GROUP BY {groups} ORDER BY {order} LIMIT $2
"""
_FIGURES: Final = ("calls", "answered", "open", "images", "prompt_units", "output_units", "cost_usd")
_SPENT_BUDGETS: Final = """
SELECT b.label, trim_scale(round(b.spent, 2)) AS spent, b.spent >= b.most AS is_spent
FROM darkroom.budget_lines('', $1, now()) b WHERE b.spent >= b.most * $2::float8::numeric ORDER BY b.is_day
"""
_BUDGET_SHARES: Final = """
SELECT k.key AS name, b.spent / nullif(b.most, 0) AS share
FROM jsonb_each($1::jsonb) k
CROSS JOIN LATERAL darkroom.budget_lines('', jsonb_build_object(k.key, k.value), now()) b
"""
# as darkroom.budget_wait gives its reason
_TOTAL_BUDGETS: Final = """
SELECT format('the %s is spent', b.label) FROM darkroom.budget_lines('', $1, now()) b WHERE NOT b.is_day
"""
# A budget of each user is counted by user, so nothing is said of what is spent of it
_BUDGETS: Final = """
SELECT coalesce(d.used, 0) AS spent_usd, coalesce((d.state ->> 'calls')::bigint, 0) AS calls,
       ARRAY(SELECT jsonb_build_object('name', k.key, 'most', k.value, 'spent', b.spent, 'label', b.label,
                                       'is_day', b.is_day)
             FROM jsonb_each($1) k
             LEFT JOIN LATERAL darkroom.budget_lines('', jsonb_build_object(k.key, k.value), now()) b ON true
             ORDER BY k.key) AS budgets
FROM darkroom.cell('budget', 'all', darkroom.day_start(now(), 'UTC')) d
"""
# Days are rolled up each hour; calls that began later are added
_DAYS: Final = """
WITH days AS MATERIALIZED (
    SELECT d.day, d.provider, d.calls, d.paid_calls, d.images, d.cost_usd, d.computed_at FROM darkroom.cost_days d
    WHERE d.day > (now() AT TIME ZONE 'utc')::date - $1::integer),
further AS (
    SELECT (c.started_at AT TIME ZONE 'utc')::date AS day, p.name AS provider, count(*) AS calls,
           count(*) FILTER (WHERE c.may_be_paid) AS paid_calls, coalesce(sum(c.images), 0) AS images,
           coalesce(sum(c.cost_usd), 0) AS cost_usd
    FROM unnest($2::text[]) p (name)
    CROSS JOIN LATERAL (
        SELECT k.started_at, k.may_be_paid, k.images, k.cost_usd FROM darkroom.provider_calls k
        WHERE k.provider = p.name
          AND k.started_at >= coalesce((SELECT max(d.computed_at) FROM days d WHERE d.provider = p.name),
                                       now() - make_interval(days => $1::integer))
        ORDER BY k.started_at DESC LIMIT $3) c
    GROUP BY 1, 2)
SELECT a.day, a.provider, sum(a.calls)::bigint AS calls, sum(a.paid_calls)::bigint AS paid_calls,
       sum(a.images)::bigint AS images, sum(a.cost_usd) AS cost_usd
FROM (SELECT d.day, d.provider, d.calls, d.paid_calls, d.images, d.cost_usd FROM days d
      UNION ALL SELECT * FROM further) a
GROUP BY 1, 2 ORDER BY 1 DESC, 2
"""
MOST_CALLS: Final = 5_000
"""How many calls of a provider are added up that no roll-up has yet; in an hour there are seldom more."""

_ANONYMOUS: Final = """
SELECT count(*) FROM darkroom.provider_calls c
WHERE c.provider = ANY ($1) AND c.started_at > now() - interval '7 days' AND c.is_free AND c.payer = 'anonymous'
"""


@dataclass(frozen=True, slots=True)
class CostLine:
    """Costs of several calls together. `group` names what the calls have in common, such as provider and model."""

    group: Mapping[str, str | None]
    calls: int
    answered: int
    open: int
    images: int
    prompt_units: int
    output_units: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class SpentBudget:
    """A budget of all users together that is nearly or wholly spent. `label` is for people, such as `day_usd 5`."""

    label: str
    spent: Decimal
    is_spent: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of DARKROOM_BUDGETS.

    Attributes:
        name: such as `day_usd`.
        most: what it allows, in USD or calls.
        spent: what is counted in it now; None for a budget of each user, which is counted by user.
        label: for people; None for a budget of each user.
        is_day: whether it begins anew each day (UTC).
    """

    name: str
    most: float
    spent: float | None
    label: str | None
    is_day: bool | None

    @property
    def spent_fraction(self) -> float | None:
        """How much of it is spent, from 0 to 1 and beyond; None if that isn't known."""
        return None if self.spent is None else self.spent / self.most if self.most else 1.0


@dataclass(frozen=True, slots=True)
class Spending:
    """What all paid calls of today (UTC) cost, with the prices of those that are in flight, and the budgets."""

    spent_usd: Decimal
    calls: int
    budgets: Sequence[Budget]


@dataclass(frozen=True, slots=True)
class CostDay:
    """What a provider cost on a day (UTC)."""

    day: date
    provider: str
    calls: int
    paid_calls: int
    images: int
    cost_usd: Decimal


async def spending(connection: Connection, budgets: Mapping[Any, float]) -> Spending:
    """Return what was spent today, and how much of each budget is."""
    row = await connection.fetchrow(_BUDGETS, dict(budgets))
    if row is None:
        raise AssertionError("unreachable: a function that returns one row is read")
    return Spending(row["spent_usd"], row["calls"], [Budget(**one) for one in row["budgets"]])


async def cost_days(connection: Connection, providers: Sequence[str], *, days: int) -> list[CostDay]:
    """Return what providers cost on each of the last `days` days, the newest day first."""
    return [CostDay(**row) for row in await connection.fetch(_DAYS, days, providers, MOST_CALLS)]


async def list_costs(
    connection: Connection, by: By, *, days: int, most: int, job_id: str | None = None, types: Types = None
) -> list[CostLine]:
    """Return calls, units and USD of the last `days` days, grouped by payer, model, day (UTC) or job.

    With a `job_id`, only that job's calls are counted; `types` are those of the jobs of its table, and without them
    jobs of all tables with this id are counted.
    """
    return [_line(dict(row)) for row in await connection.fetch(_costs(by), days, most, job_id, types)]


async def count_costs(
    connection: Connection, by: By, *, days: int, job_id: str | None = None, types: Types = None
) -> int:
    """Count the lines that `list_costs` would return without a limit."""
    return int(await connection.fetchval(f"SELECT count(*) FROM ({_costs(by)}) c", days, None, job_id, types))


def _costs(by: By) -> str:
    groups = "1, 2" if by in {"model", "job"} else "1"
    order = "1 DESC" if by == "day" else "cost_usd DESC, 1"
    return _COSTS.format(columns=_COLUMNS[by], groups=groups, order=order)


def _line(row: dict[str, Any]) -> CostLine:
    figures = {name: row.pop(name) for name in _FIGURES}
    return CostLine(row, **figures)


async def nearly_spent_budgets(
    connection: Connection, budgets: Mapping[Any, float], fraction: float
) -> list[SpentBudget]:
    """Return the budgets of which at least `fraction` is spent, among those of all users together."""
    return [SpentBudget(**row) for row in await connection.fetch(_SPENT_BUDGETS, dict(budgets), fraction)]


async def budget_shares(connection: Connection, budgets: Mapping[Any, float]) -> dict[str, float]:
    """Return which part is spent of each budget of all users together, by its name; one of 0 counts as spent."""
    rows = await connection.fetch(_BUDGET_SHARES, dict(budgets))
    return {row["name"]: 1.0 if row["share"] is None else float(row["share"]) for row in rows}


async def total_budget_reasons(connection: Connection, budgets: Mapping[Any, float]) -> frozenset[str]:
    """Return, for each budget without a period, the reason that the gate gives when this budget is spent."""
    return frozenset(row[0] for row in await connection.fetch(_TOTAL_BUDGETS, dict(budgets)))


async def count_anonymous_free_calls(connection: Connection, providers: Sequence[str]) -> int:
    """Count the calls to some providers in the last seven days that were made for anonymous users' FREE jobs."""
    count: int = await connection.fetchval(_ANONYMOUS, providers)
    return count
