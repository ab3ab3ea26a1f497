"""The intent log: what a job is about to buy, written and committed before the call, if the gate lets it through."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from models.connections import Connection
from models.queue.claims import Claim, FencedError

MOST_PROBLEM_CHARS = 500

Verdict = Literal["answered", "failed", "throttled", "stopped", "neutral"]
"""What a call's end says of its provider: it answers, is down, wants to be left alone, takes no call; nothing."""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A call that is to be made, as the gate counts it.

    Attributes:
        provider: its name.
        purpose: `analyze` or `generate`.
        may_be_paid: False for what is free: it is written down and counted nowhere.
        model: who will be asked.
        price_usd: what it will cost by the table of prices.
        images: how many pictures it will make.
        rules: rates, budgets and concurrency, as `darkroom.open_call` reads them.
        call_hash: of what is asked, 64 hex digits: calls that buy the same have the same (the column `input_hash`).
    """

    provider: str
    purpose: str
    may_be_paid: bool
    model: str | None = None
    price_usd: Decimal = Decimal(0)
    images: int = 0
    rules: Mapping[str, Any] = field(default_factory=dict)
    call_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Admitted:
    """The call may be made; `warning` says which budget is nearly spent, once."""

    intent: int
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The call may not be made now.

    `kind` is `stopped` (by an operator: the kill switch, or a pause), `paused` (the provider asked for it), `breaker`,
    `quota` (a day's), `rate` (a minute's), `budget` or `concurrency`.
    """

    kind: str
    reason: str
    wait_s: float

    def lasting(self) -> str:
        """Return the reason, and of a budget until when it holds: a day's is over at midnight, UTC."""
        if self.kind != "budget":
            return self.reason
        until = datetime.now(UTC) + timedelta(seconds=self.wait_s + 30)  # to the nearest minute
        return f"{self.reason}; it waits until {until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call ended: `outcome` is `answered` or an error's name; units are the provider's own.

    `problem` is what came back instead of what was asked for, in our words.

    A call that was sent counts in full, whatever came back; one that was
    never sent is given back to rates and budgets.
    """

    outcome: str
    may_be_paid: bool
    latency_ms: int
    model: str | None = None
    prompt_units: int | None = None
    output_units: int | None = None
    images: int | None = None
    cost_usd: Decimal | None = None
    was_sent: bool = True
    verdict: Verdict = "neutral"
    retry_after_s: float | None = None
    reason: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PaidCall:
    """A generate call that may have been paid: how it ended (`open` if nobody knows), and what came back."""

    outcome: str
    problem: str | None


async def open_call(connection: Connection, claim: Claim, plan: CallPlan) -> Admitted | Refused:
    """Write that a call follows, under the claim's fence, if the gate lets it through: one transaction decides.

    Raises:
        FencedError: the claim is lost; the call must not be made.
    """
    row = await connection.fetchrow(
        "SELECT * FROM darkroom.open_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        *(claim.job_type, claim.job_id, claim.id, claim.lease_token, claim.user_id, claim.attempt),
        *(plan.provider, plan.model, plan.purpose, plan.may_be_paid, plan.price_usd, plan.images, dict(plan.rules)),
        plan.call_hash,
    )
    if row is None or row["kind"] == "claim_lost":
        raise FencedError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
    if row["intent"] is None:
        return Refused(row["kind"], row["reason"], row["wait_s"])
    return Admitted(row["intent"], row["warning"])


async def close_call(
    connection: Connection, intent: int, outcome: CallOutcome, rules: Mapping[str, Any] | None = None
) -> None:
    """Write how a call ended, and what it says of its provider. Needs no fence: it happened. Repeating it is safe."""
    await connection.execute(
        "SELECT darkroom.close_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        *(intent, outcome.outcome, outcome.may_be_paid, outcome.latency_ms, outcome.model),
        *(outcome.prompt_units, outcome.output_units, outcome.images, outcome.cost_usd),
        *(outcome.was_sent, outcome.verdict, outcome.retry_after_s, outcome.reason, dict(rules or {})),
        None if outcome.problem is None else outcome.problem.replace("\0", "")[:MOST_PROBLEM_CHARS],
    )


async def provider_wait(
    connection: Connection, provider: str, rules: Mapping[str, Any], *, images: int = 1, is_paid: bool = True
) -> Refused | None:
    """Say why nobody may call a provider now, whoever's job it is; None if somebody may. Locks nothing."""
    if is_paid:
        row = await connection.fetchrow(
            "SELECT * FROM darkroom.call_wait($1, NULL, 0.000001, $2, $3)", provider, images, dict(rules)
        )
    else:
        row = await connection.fetchrow("SELECT * FROM darkroom.pause_wait($1)", provider)
    if row is None or row["kind"] is None:
        return None
    return Refused(row["kind"], row["reason"], row["wait_s"])


async def pause_left_s(connection: Connection, provider: str) -> float:
    """Return for how many seconds a provider still wants to be left alone; 0 if it doesn't."""
    left_s = await connection.fetchval(
        """
        SELECT extract(epoch FROM (state ->> 'paused_until')::timestamptz - clock_timestamp())::float8
        FROM darkroom.cell('provider', $1, 'epoch')
        """,
        provider,
    )
    return max(0.0, left_s or 0.0)


async def paid_generations(connection: Connection, claim: Claim) -> list[PaidCall]:
    """Return the generate calls of a job that may have been paid, over all attempts, oldest first; open ones too."""
    rows = await connection.fetch(
        """
        SELECT outcome, problem FROM darkroom.provider_calls
        WHERE job_id = $1 AND job_type = $2 AND purpose = 'generate' AND may_be_paid ORDER BY id
        """,
        claim.job_id,
        claim.job_type,
    )
    return [PaidCall(**row) for row in rows]


async def repeated_miss(
    connection: Connection, claim: Claim, provider: str, model: str, outcomes: Collection[str]
) -> str | None:
    """Return what came back when a model ended two generate calls of a job with the same one of these outcomes.

    None if no two ended so, over all attempts.
    """
    problem: str | None = await connection.fetchval(
        """
        SELECT coalesce((array_agg(problem ORDER BY id DESC))[1], outcome) FROM darkroom.provider_calls
        WHERE job_id = $1 AND job_type = $2 AND purpose = 'generate' AND provider = $3 AND model = $4
          AND outcome = ANY ($5::text[])
        GROUP BY outcome HAVING count(*) >= 2 ORDER BY max(id) DESC LIMIT 1
        """,
        *(claim.job_id, claim.job_type, provider, model, list(outcomes)),
    )
    return problem
