"""The intent log: what a job is about to buy, written and committed before the call."""

from dataclasses import dataclass
from decimal import Decimal

from models.claims import Claim, ClaimLostError
from models.database import Connection
from models.job_tables import table_of


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How a call ended: `outcome` is `answered` or an error's name; units are the provider's own."""

    outcome: str
    may_be_paid: bool
    latency_ms: int
    model: str | None = None
    prompt_units: int | None = None
    output_units: int | None = None
    images: int | None = None
    cost_usd: Decimal | None = None


async def open_intent(connection: Connection, claim: Claim, *, provider: str, purpose: str, may_be_paid: bool) -> int:
    """Write that a call follows, under the claim's fence; return the intent's id.

    Raises:
        ClaimLostError: the claim is lost; the call must not be made.
    """
    intent = await connection.fetchval(
        f"""
        WITH job AS MATERIALIZED (
                SELECT j.id FROM {table_of(claim.job_type).name} j WHERE j.id = $1 FOR KEY SHARE),
            held AS MATERIALIZED (
                SELECT q.id FROM darkroom.job_queue q JOIN job ON job.id = q.job_id
                WHERE q.id = $2 AND q.lease_token = $3 FOR UPDATE OF q)
        INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, purpose, may_be_paid)
        SELECT $4, $1, $5, $6, $7, $8, $9 FROM held RETURNING id
        """,
        claim.job_id,
        claim.id,
        claim.lease_token,
        claim.job_type,
        claim.user_id,
        claim.attempt,
        provider,
        purpose,
        may_be_paid,
    )
    if intent is None:
        raise ClaimLostError(f"{claim.job_type} job {claim.job_id} is no longer held by this claim")
    return int(intent)


async def close_intent(connection: Connection, intent: int, outcome: CallOutcome) -> None:
    """Write how a call ended. Needs no fence: it happened, whoever holds the job now."""
    await connection.execute(
        """
        UPDATE darkroom.provider_calls SET outcome = $2, may_be_paid = $3, latency_ms = $4, model = $5,
            prompt_units = $6, output_units = $7, images = $8, cost_usd = $9, finished_at = clock_timestamp()
        WHERE id = $1
        """,
        intent,
        outcome.outcome,
        outcome.may_be_paid,
        outcome.latency_ms,
        outcome.model,
        outcome.prompt_units,
        outcome.output_units,
        outcome.images,
        outcome.cost_usd,
    )


async def paid_generations(connection: Connection, claim: Claim) -> int:
    """Count the generate calls of a job that may have been paid, over all attempts; an open one counts."""
    return int(
        await connection.fetchval(
            """
            SELECT count(*) FROM darkroom.provider_calls
            WHERE job_id = $1 AND job_type = $2 AND purpose = 'generate' AND may_be_paid
            """,
            claim.job_id,
            claim.job_type,
        )
    )
