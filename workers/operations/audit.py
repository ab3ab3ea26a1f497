"""Audit of the money promises for every user, and repairs by which no user loses a token."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Final

import asyncpg

from models.applications.registry import types_paid_in_tokens
from models.connections import Connection
from models.history.actions import record_action, record_adjustment
from models.money.repairs import (
    OwedRefund,
    Repaired,
    owed_refunds,
    pay_owed,
    pay_refund,
    raise_balance,
    record_opening,
    settle_account,
)
from models.money.violations import Violation, list_violations
from workers.process.runtime import Runtime

OWED: Final = "refund_owed"
"""Name of an owed refund in lists of violations. It isn't a violation, because it is recorded."""


async def audit_tokens(runtime: Runtime) -> list[Violation]:
    """Return every violation of the money promises."""
    return await runtime.database.run(list_violations)


async def list_owed_refunds(runtime: Runtime) -> list[OwedRefund]:
    """Return the refunds that the database refused to pay."""
    return await runtime.database.run(owed_refunds)


async def repair_tokens(runtime: Runtime, *, actor: str, reason: str | None = None) -> list[Violation]:
    """Repair what can be repaired without taking a token from anybody; return the violations that were repaired.

    Missing opening balances are recorded, missing and owed refunds paid, and balances raised that are below the sum of
    opening balance and ledger, or of their entries; what an account has beyond its entries is recorded. What the
    database refuses again stays unchanged. No ledger row is deleted or changed, and users keep surplus tokens. Each
    repair is a transaction of its own, with its row of operator_actions. Idempotent.
    """
    repaired = []
    for violation in _REPAIRS:  # in this order, because some violations are found only once an earlier kind is repaired
        for found in await _of_kind(runtime, violation):
            change = partial(_repair, found=found, actor=actor, reason=reason)
            with suppress(asyncpg.PostgresError):  # what the database refuses stays unchanged
                if await runtime.database.commit("repair_tokens", change):
                    repaired.append(found)
    return repaired


async def _repair(connection: Connection, *, found: Violation, actor: str, reason: str | None) -> bool:
    async with connection.transaction():
        repaired = await _REPAIRS[found.violation](connection, found)
        if repaired is None:
            return False
        before: dict[str, object] = {repaired.name: repaired.before}
        after: dict[str, object] = {repaired.name: repaired.after}
        await record_action(
            connection,
            actor=actor,
            action=f"tokens_repair_{found.violation}",
            target=found.job_id or found.user_id,
            before=before | {"finding": found.finding},
            after=after,
            reason=reason,
        )
        is_paid_in_tokens = found.job_type is None or found.job_type in types_paid_in_tokens()
        if (
            is_paid_in_tokens and _REPAIRS[found.violation] is not _settle_account
        ):  # otherwise the payer may not be a user
            adjusted = {"repair": found.violation, "before": before, "after": after}
            await record_adjustment(connection, actor=actor, user_id=found.user_id, change=adjusted, reason=reason)
        return True


async def _of_kind(runtime: Runtime, violation: str) -> list[Violation]:
    if violation != OWED:
        return [found for found in await audit_tokens(runtime) if found.violation == violation]
    return [
        Violation(
            "I3",
            OWED,
            one.user_id,
            one.job_type,
            one.job_id,
            f"refund of {one.owed} owed since {one.refused_at:%Y-%m-%d %H:%M} UTC: {one.words}",
        )
        for one in await list_owed_refunds(runtime)
    ]


async def _record_opening(connection: Connection, found: Violation) -> Repaired | None:
    return await record_opening(connection, found.user_id)


async def _pay_refund(connection: Connection, found: Violation) -> Repaired | None:
    return await pay_refund(connection, found.job_type or "", found.job_id or "", found.user_id)


async def _pay_owed(connection: Connection, found: Violation) -> Repaired | None:
    return await pay_owed(connection, found.job_type or "", found.job_id or "")


async def _raise_balance(connection: Connection, found: Violation) -> Repaired | None:
    return await raise_balance(connection, found.user_id)


async def _settle_account(connection: Connection, found: Violation) -> Repaired | None:
    return await settle_account(connection, found.user_id, found.finding)


_REPAIRS: Final[Mapping[str, Callable[[Connection, Violation], Awaitable[Repaired | None]]]] = {
    "opening_missing": _record_opening,
    "refund_missing": _pay_refund,
    OWED: _pay_owed,
    "balance_low": _raise_balance,
    "account_unopened": _settle_account,
    "account_low": _settle_account,
    "account_high": _settle_account,
}
