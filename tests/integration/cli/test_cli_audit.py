"""`darkroom tokens audit` names every kind of violation, and repairs those where no user loses a token."""

from typing import Any

import pytest

from models.database import Database
from tests.support.builders import balance_of, ledger_of, make_job, make_user, set_status
from tests.support.calling import Arrange, Darkroom

BROKEN = "SET LOCAL session_replication_role = replica; "


async def plant(database: Database, *statements: str) -> None:
    """Do what nobody may: with our triggers out of the way."""
    async with database.connection() as connection, connection.transaction():
        await connection.execute(BROKEN + "; ".join(statements))


async def sound(database: Database) -> tuple[str, str]:
    user_id = await make_user(database)
    return user_id, await make_job(database, user_id=user_id)


def ledger_row(user_id: str, job_id: str, amount: int, kind: str) -> str:
    return f"""INSERT INTO public.token_transactions (id, "userId", amount, type, "sourceId", "balanceAfter")
               VALUES ('planted', '{user_id}', {amount}, '{kind}', '{job_id}', 0)"""


def planted(violation: str, user: str, job: str) -> tuple[str, ...]:
    balance = f"""UPDATE public.user_token_balances SET balance = balance + {{}} WHERE "userId" = '{user}'"""
    ended = f"UPDATE public.image_enhancement_jobs SET status = '{{}}' WHERE id = '{job}'"
    unqueued = "DELETE FROM darkroom.job_queue"
    refund = f"INSERT INTO darkroom.job_money VALUES ('enhance', '{job}', 'refund', {{}})"
    return {
        "balance_low": (balance.format(-1),),
        "balance_high": (balance.format(1),),
        "balance_negative": (
            f"UPDATE darkroom.opening_balances SET balance = -3 WHERE user_id = '{user}'",
            balance.format(-103),
        ),
        "opening_missing": ("DELETE FROM darkroom.opening_balances",),
        "refund_unmatched": (refund.format(1),),
        "refund_missing": (ended.format("FAILED"), unqueued),
        "completed_refunded": (ended.format("COMPLETED"), unqueued, refund.format(2)),
        "ledger_doubled": (ledger_row(user, job, 2, "REFUND"), balance.format(2)),
    }[violation]


@pytest.mark.parametrize(
    ("violation", "is_repaired", "balance"),
    [
        ("balance_low", True, 98),
        ("balance_high", False, 99),
        ("balance_negative", False, -5),
        ("opening_missing", True, 98),
        ("refund_unmatched", False, 98),
        ("refund_missing", True, 100),
        ("completed_refunded", False, 98),
        ("ledger_doubled", False, 100),
    ],
)
def test_each_violation_is_named_and_repaired_only_to_the_users_advantage(
    darkroom: Darkroom, arrange: Arrange, violation: str, *, is_repaired: bool, balance: int
) -> None:
    user_id, job_id = arrange(sound)
    arrange(lambda db: plant(db, *planted(violation, user_id, job_id)))
    ledger: list[Any] = arrange(lambda db: ledger_of(db, user_id))

    named = darkroom("tokens", "audit", "--json")
    people = darkroom("tokens", "audit")
    repaired = darkroom("tokens", "audit", "--repair", "--reason", "audit", "--json")
    again = darkroom("tokens", "audit", "--repair", "--json")

    assert (named.code, people.code) == (1, 1)
    assert [one["violation"] for one in named.json["violations"]] == [violation]
    assert violation in people.out
    assert repaired.code == again.code == (0 if is_repaired else 1)
    assert [one["violation"] for one in repaired.json["repaired"]] == ([violation] if is_repaired else [])
    assert again.json["repaired"] == []
    assert arrange(lambda db: balance_of(db, user_id)) == balance
    assert arrange(lambda db: ledger_of(db, user_id))[: len(ledger)] == ledger
    actions = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions"))
    assert [(row["action"], row["reason"]) for row in actions] == (
        [(f"tokens_repair_{violation}", "audit")] if is_repaired else []
    )
    adjustments = arrange(lambda db: db.fetch("SELECT * FROM public.audit_logs WHERE action = 'TOKEN_ADJUSTMENT'"))
    assert [(row["targetId"], row["metadata"]["repair"]) for row in adjustments] == (
        [(user_id, violation)] if is_repaired else []
    )


def test_sound_books_pass_the_audit_and_are_left_alone(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id, job_id = arrange(sound)
    arrange(lambda db: set_status(db, job_id, "CANCELLED"))

    ran, repaired = darkroom("tokens", "audit"), darkroom("tokens", "audit", "--repair", "--json")

    assert (ran.code, ran.out) == (0, "every charge, refund and balance is as promised\n")
    assert (repaired.code, repaired.json) == (0, {"violations": [], "owed": [], "repaired": []})
    assert arrange(lambda db: balance_of(db, user_id)) == 100
