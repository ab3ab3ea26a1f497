"""The intent log: one row for each provider call, committed before the call if the gate admits it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal

from asyncpg import Record

from models.applications.registry import table_of
from models.connections import Connection
from models.queue.claims import Claim, FencedError

MOST_PROBLEM_CHARS = 500

Verdict = Literal["answered", "failed", "throttled", "stopped", "neutral"]
"""What a call's end says about its provider.

`answered`: it works; `failed`: it doesn't; `throttled`: it asks for fewer calls; `stopped`: it accepts no call;
`neutral`: nothing.
"""


@dataclass(frozen=True, slots=True)
class CallPlan:
    """A provider call that is to be made, with the facts that the gate counts.

    Attributes:
        provider: the provider's name.
        purpose: `analyze` or `generate`.
        may_be_paid: False for a call that is free, which is recorded but not counted.
        model: the model that will be asked.
        price_usd: what the call will cost by the table of prices.
        images: how many pictures the call will make.
        rules: rates, budgets and concurrency, as `darkroom.open_call` reads them.
        call_hash: 64 hex digits, equal for calls that ask for the same (the column `input_hash`).
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
    """The gate admits the call.

    `warning` names a budget that is nearly spent; each budget is named once in a period. `at_s` is when the answer
    came, on the clock of `time.monotonic`.
    """

    intent: int
    warning: str | None = None
    at_s: float = field(default_factory=time.monotonic, compare=False)


@dataclass(frozen=True, slots=True)
class Refused:
    """The gate refuses the call for now.

    `kind` is `stopped` (by an operator: the kill switch, or a pause), `paused` (the provider asked for it), `breaker`,
    `quota` (the calls of a day are spent), `rate` (those of a minute are), `budget` or `concurrency`.
    """

    kind: str
    reason: str
    wait_s: float

    def lasting(self) -> str:
        """Return the reason, and for a budget also the time until which the refusal lasts.

        A day's budget ends at midnight UTC.
        """
        if self.kind != "budget":
            return self.reason
        until = datetime.now(UTC) + timedelta(seconds=self.wait_s + 30)  # to the nearest minute
        return f"{self.reason}; it waits until {until:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a provider call ended.

    `outcome` is `answered` or an error's name; units are the provider's own. `problem` says, in our words, what came
    back instead of what was asked for. A call that was sent is counted in full, whatever came back. A call that was
    never sent is taken out of rates and budgets, which counted it when it was opened.
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
class Generation:
    """A generate call of a job: whom it asked, how it ended (`open` if unknown), and what came back."""

    provider: str
    model: str | None
    outcome: str
    problem: str | None
    may_be_paid: bool


async def open_call(connection: Connection, claim: Claim, plan: CallPlan) -> Admitted | Refused:
    """If the gate admits a call, record it, before it is made. Gate, fence and record are one transaction.

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
    return _answer(row)


def _answer(row: Record) -> Admitted | Refused:
    if row["intent"] is None:
        return Refused(row["kind"], row["reason"], row["wait_s"])
    return Admitted(row["intent"], row["warning"])


async def open_calls(
    connection: Connection, asked: Sequence[tuple[Claim, CallPlan]]
) -> Sequence[Admitted | Refused | None]:
    """Record those of some calls that the gate admits, before they are made, in one transaction; each under its fence.

    The plans are for one provider, with the same rules. The answer of a call is None if its claim is lost or locked by
    another session; `open_call` then tells which, and waits.
    """
    plan = asked[0][1]
    calls = [
        {
            "job_type": claim.job_type,
            "job_id": claim.job_id,
            "queue_id": claim.id,
            "user_id": claim.user_id,
            "lease_token": str(claim.lease_token),
            "attempt": claim.attempt,
            "model": one.model,
            "purpose": one.purpose,
            "input_hash": one.call_hash,
            "quoted_usd": str(one.price_usd),
            "quoted_images": one.images,
        }
        for claim, one in asked
    ]
    rows = await connection.fetch(
        "SELECT * FROM darkroom.open_calls($1, $2, $3, $4)", plan.provider, plan.may_be_paid, dict(plan.rules), calls
    )
    answers = {row["number"]: _answer(row) for row in rows}
    return [answers.get(number) for number in range(1, len(asked) + 1)]


async def close_call(
    connection: Connection, intent: int, outcome: CallOutcome, rules: Mapping[str, Any] | None = None
) -> None:
    """Record how a call ended, and what that says about its provider. Repeatable; it needs no claim."""
    await connection.execute(
        "SELECT darkroom.close_call($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
        *(intent, outcome.outcome, outcome.may_be_paid, outcome.latency_ms, outcome.model),
        *(outcome.prompt_units, outcome.output_units, outcome.images, outcome.cost_usd),
        *(outcome.was_sent, outcome.verdict, outcome.retry_after_s, _stored(outcome.reason), dict(rules or {})),
        _stored(outcome.problem),
    )


async def close_calls(
    connection: Connection, ends: Sequence[tuple[int, CallOutcome]], rules: Mapping[str, Any]
) -> Sequence[bool]:
    """Record how some calls to one provider ended, as `close_call` does for one, in one transaction.

    Return whether each is recorded. One whose row another session holds isn't; `close_call` waits for the row.
    """
    objects = [
        {
            "intent": intent,
            "outcome": end.outcome,
            "may_be_paid": end.may_be_paid,
            "latency_ms": end.latency_ms,
            "model": end.model,
            "prompt_units": end.prompt_units,
            "output_units": end.output_units,
            "images": end.images,
            "cost_usd": None if end.cost_usd is None else str(end.cost_usd),
            "was_sent": end.was_sent,
            "verdict": end.verdict,
            "retry_after_s": end.retry_after_s,
            "reason": _stored(end.reason),
            "problem": _stored(end.problem),
        }
        for intent, end in ends
    ]
    recorded = set(await connection.fetchval("SELECT darkroom.close_calls($1, $2)", dict(rules), objects))
    return [intent in recorded for intent, _ in ends]


def _stored(text: str | None) -> str | None:
    """Return a text as a row can hold it: without the character that PostgreSQL refuses, and cut."""
    return None if text is None else text.replace("\0", "")[:MOST_PROBLEM_CHARS]


async def record_unusable(connection: Connection, claim: Claim, intent: int, outcome: str, problem: str) -> None:
    """Record of a job's answered call that its picture turned out to be unusable. Repeatable; it needs no claim.

    Args:
        connection: a connection.
        claim: the job's.
        intent: the call.
        outcome: the error's name, as calls are closed with it.
        problem: what came back, in our words.
    """
    await connection.execute(
        """
        UPDATE darkroom.provider_calls SET outcome = $4, problem = $5
        WHERE id = $1 AND job_type = $2 AND job_id = $3 AND outcome = 'answered'
        """,
        *(intent, claim.job_type, claim.job_id, outcome, _stored(problem)),
    )


async def provider_wait(
    connection: Connection, provider: str, rules: Mapping[str, Any], *, images: int = 1, is_paid: bool = True
) -> Refused | None:
    """Return the reason why no job may call a provider now; None if some job may. Takes no lock."""
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
    """Return for how many seconds a provider has asked not to be called; 0 if it hasn't."""
    left_s = await connection.fetchval(
        """
        SELECT extract(epoch FROM (state ->> 'paused_until')::timestamptz - clock_timestamp())::float8
        FROM darkroom.cell('provider', $1, 'epoch')
        """,
        provider,
    )
    return max(0.0, left_s or 0.0)


def generations_as_json(job_type: str, job_id: str, of_this_life: str = "") -> str:
    """Return SQL that yields, for `generations_of`, the generate calls of a job, or NULL if it has none.

    The arguments are SQL expressions. The last one is a further condition on `p`, the call, which begins with AND: it
    leaves out the calls of an earlier job that had the same id. OFFSET 0 keeps the order from being read from the index
    of all calls' ids.
    """
    of_job = f"p.job_id = {job_id} AND p.job_type = {job_type} AND p.purpose = 'generate'{of_this_life}"
    return f"""(SELECT pg_catalog.jsonb_agg(
        pg_catalog.jsonb_build_array(c.provider, c.model, c.outcome, c.problem, c.may_be_paid) ORDER BY c.id)
        FROM (SELECT p.* FROM darkroom.provider_calls p
              WHERE {of_job} OFFSET 0) c)"""


def generations_of(rows: Sequence[Sequence[Any]] | None) -> list[Generation]:
    """Return the generate calls, oldest first, that `generations_as_json` yielded."""
    return [Generation(*row) for row in rows or ()]


# Each job's calls are read by a subquery of its own, which OFFSET 0 keeps from being merged with the others, so that
# they are found by the job's id whenever the plan is made.
_GENERATIONS = """
SELECT asked.place, c.provider, c.model, c.outcome, c.problem, c.may_be_paid
FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY asked (job_type, job_id, queue_id, place)
CROSS JOIN LATERAL (
    SELECT p.* FROM darkroom.provider_calls p
    WHERE p.job_id = asked.job_id AND p.job_type = asked.job_type AND p.purpose = 'generate'
      AND (asked.queue_id IS NULL
           OR p.started_at >= (SELECT q.created_at FROM darkroom.job_queue q WHERE q.id = asked.queue_id)) OFFSET 0) c
ORDER BY c.id
"""


_ASKED: Final = """
SELECT c.provider, c.model, c.outcome, c.problem, c.may_be_paid
FROM (SELECT p.* FROM darkroom.provider_calls p
      WHERE p.job_id = $2 AND p.job_type = $1 AND p.purpose = 'generate'
        AND ($4::bigint IS NULL
             OR p.started_at >= (SELECT q.created_at FROM darkroom.job_queue q WHERE q.id = $4)) OFFSET 0) c
WHERE c.input_hash = $3 ORDER BY c.id
"""


def _begun_by(claim: Claim) -> int | None:
    """Return the id of the queue row that is as old as the job, if an earlier job may have had its id."""
    return claim.id if table_of(claim.job_type).ids_come_again else None


async def generations_asked(connection: Connection, claim: Claim, call_hash: str) -> list[Generation]:
    """Return those generate calls of a job, of all attempts, that asked for the same; oldest first, open ones too."""
    rows = await connection.fetch(_ASKED, claim.job_type, claim.job_id, call_hash, _begun_by(claim))
    return [Generation(**row) for row in rows]


async def generations(connection: Connection, claims: Sequence[Claim]) -> list[list[Generation]]:
    """Return the generate calls of some jobs, of all attempts, in the order of the claims; each job's oldest first.

    Open calls are among them.
    """
    found: list[list[Generation]] = [[] for _ in claims]
    for row in await connection.fetch(
        _GENERATIONS,
        [claim.job_type for claim in claims],
        [claim.job_id for claim in claims],
        [_begun_by(claim) for claim in claims],
    ):
        call = Generation(row["provider"], row["model"], row["outcome"], row["problem"], row["may_be_paid"])
        found[row["place"] - 1].append(call)
    return found
