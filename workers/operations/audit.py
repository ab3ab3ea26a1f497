"""The money promises, proved for every user, and set right where nobody loses a token by it."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from models.connections import Connection, is_refusal
from workers.operations.actions import record_action, record_adjustment
from workers.operations.ledger import REQUIRE_BALANCE
from workers.process.compose import Runtime

PATIENCE_S: Final = 1_800
"""An audit reads the whole ledger, and locks nothing."""

OWED: Final = "refund_owed"
"""As violations are named; it is none, because it is recorded."""

_VIOLATIONS: Final = """
SELECT v.promise, v.violation, v.user_id AS "userId", v.job_type AS "jobType", v.job_id AS "jobId", v.finding
FROM darkroom.money_violations v ORDER BY v.promise DESC, v.violation, v.user_id, v.job_id
"""

_OWED: Final = """
SELECT o.user_id AS "userId", o.job_type AS "jobType", o.job_id AS "jobId", o.owed, o.refused_at AS "refusedAt", o.words
FROM darkroom.refunds_owed o ORDER BY o.refused_at, o.job_id
"""
_SETTLE: Final = "SELECT darkroom.settle_refused_end($1, $2)"

# user row, then balance, as everyone locks; what it should be is summed up only under that lock
_LOCK_USER: Final = "SELECT FROM public.users u WHERE u.id = $1 FOR KEY SHARE"
_LOCK_BALANCE: Final = 'SELECT b.balance FROM public.user_token_balances b WHERE b."userId" = $1 FOR NO KEY UPDATE'
_LEDGER: Final = """
SELECT coalesce(sum(t.amount), 0)::bigint FROM public.token_transactions t WHERE t."userId" = $1
"""
_OPENING: Final = "SELECT o.balance FROM darkroom.opening_balances o WHERE o.user_id = $1"
_OPEN: Final = "INSERT INTO darkroom.opening_balances (user_id, balance) VALUES ($1, $2) ON CONFLICT DO NOTHING"
_RAISE: Final = """
UPDATE public.user_token_balances SET balance = $2, "updatedAt" = darkroom.utc_now() WHERE "userId" = $1
"""
_REFUND: Final = """
SELECT darkroom.refund(ARRAY[ROW($1::text, $2::text, $3::text, j.status::text, NULL,
                                 'missing refund, paid by an operator')::darkroom.change])
FROM darkroom.jobs j WHERE j.id = $2 AND j.type = $1 AND j.status IN ('FAILED', 'REFUNDED', 'CANCELLED')
"""
_REFUNDED: Final = """
SELECT m.amount FROM darkroom.job_money m WHERE m.job_type = $1 AND m.job_id = $2 AND m.kind = 'refund'
"""

Change = tuple[dict[str, Any], dict[str, Any]]
"""What was before, and what is now."""


async def audit_tokens(runtime: Runtime) -> list[dict[str, Any]]:
    """Return every breach of the money promises: `promise`, `violation`, whose it is and what was found."""

    async def read(connection: Connection) -> list[dict[str, Any]]:
        return [dict(row) for row in await connection.fetch(_VIOLATIONS, timeout=PATIENCE_S)]

    return await runtime.database.run(read)


async def owed_refunds(runtime: Runtime) -> list[dict[str, Any]]:
    """Return the refunds that the database refused to pay: whose, for which job, how much, and PostgreSQL's words."""
    return [dict(row) for row in await runtime.database.fetch(_OWED)]


async def repair_tokens(runtime: Runtime, *, actor: str, reason: str | None = None) -> list[dict[str, Any]]:
    """Set right what can be without taking a token from anybody; return the violations that were.

    Missing opening balances are recorded, missing and owed refunds paid, and balances below their opening and ledger
    raised; what the database still refuses stays as it is. No ledger row is deleted or changed, and what a user has too
    much of stays theirs. Each is a transaction of its own, with its row of operator_actions; twice is as good as once.
    """
    repaired = []
    for violation, repair in _REPAIRS.items():  # the next may be found only once the one before is right
        for found in await _of_kind(runtime, violation):

            async def change(connection: Connection, found: dict[str, Any] = found, repair: Repair = repair) -> bool:
                async with connection.transaction():
                    changed = await repair(connection, found)
                    if changed is None:
                        return False
                    await record_action(
                        connection,
                        actor=actor,
                        action=f"tokens_repair_{found['violation']}",
                        target=found["jobId"] or found["userId"],
                        before=changed[0] | {"finding": found["finding"]},
                        after=changed[1],
                        reason=reason,
                    )
                    adjusted = {"repair": found["violation"], "before": changed[0], "after": changed[1]}
                    await record_adjustment(
                        connection, actor=actor, user_id=found["userId"], change=adjusted, reason=reason
                    )
                    return True

            try:
                if await runtime.database.commit("repair_tokens", change):
                    repaired.append(found)
            except asyncpg.PostgresError as error:
                if not is_refusal(error):
                    raise
    return repaired


async def _of_kind(runtime: Runtime, violation: str) -> list[dict[str, Any]]:
    if violation != OWED:
        return [found for found in await audit_tokens(runtime) if found["violation"] == violation]
    return [
        {
            "promise": "I3",
            "violation": OWED,
            **{name: one[name] for name in ("userId", "jobType", "jobId")},
            "finding": f"refund of {one['owed']} owed since {one['refusedAt']:%Y-%m-%d %H:%M} UTC: {one['words']}",
        }
        for one in await owed_refunds(runtime)
    ]


async def _record_opening(connection: Connection, found: dict[str, Any]) -> Change | None:
    user_id = found["userId"]
    balance = await _locked_balance(connection, user_id)
    opening = balance - await connection.fetchval(_LEDGER, user_id)
    if await connection.execute(_OPEN, user_id, opening) != "INSERT 0 1":
        return None
    return {"opening": None}, {"opening": opening}


async def _pay_refund(connection: Connection, found: dict[str, Any]) -> Change | None:
    job = found["jobType"], found["jobId"]
    if await connection.fetchval(_REFUNDED, *job) is not None:
        return None
    await connection.execute(_REFUND, *job, found["userId"])
    amount = await connection.fetchval(_REFUNDED, *job)
    return None if amount is None else ({"refund": None}, {"refund": amount})


async def _pay_owed(connection: Connection, found: dict[str, Any]) -> Change | None:
    job = found["jobType"], found["jobId"]
    await connection.execute(_SETTLE, *job)
    amount = await connection.fetchval(_REFUNDED, *job)
    return None if amount is None else ({"refund": None}, {"refund": amount})


async def _raise_balance(connection: Connection, found: dict[str, Any]) -> Change | None:
    user_id = found["userId"]
    balance = await _locked_balance(connection, user_id)
    opening = await connection.fetchval(_OPENING, user_id)
    if opening is None:
        return None
    owed = opening + await connection.fetchval(_LEDGER, user_id)
    if owed <= balance:
        return None
    await connection.execute(_RAISE, user_id, owed)
    await connection.execute(REQUIRE_BALANCE, user_id, owed)
    return {"balance": balance}, {"balance": owed}


async def _locked_balance(connection: Connection, user_id: str) -> int:
    await connection.execute(_LOCK_USER, user_id)
    return int(await connection.fetchval(_LOCK_BALANCE, user_id) or 0)


Repair = Callable[[Connection, dict[str, Any]], Awaitable[Change | None]]
_REPAIRS: Final[dict[str, Repair]] = {
    "opening_missing": _record_opening,
    "refund_missing": _pay_refund,
    OWED: _pay_owed,
    "balance_low": _raise_balance,
}
