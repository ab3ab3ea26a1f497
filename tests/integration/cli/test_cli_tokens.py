"""`darkroom tokens`: balances and their ledger, called through the program."""

import pytest

from tests.support.builders import balance_of, ledger_of, make_user, money_violations, set_mode
from tests.support.calling import Arrange, Darkroom
from workers.operations.actions import os_user


def test_grant_writes_balance_ledger_and_action_together(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(lambda db: make_user(db, balance=None))

    ran = darkroom("tokens", "grant", f"{user_id}@example.test", "40", "--reason", "sorry", "--json")

    assert (ran.code, ran.json["amount"], ran.json["balanceAfter"]) == (0, 40, 40)
    assert (ran.json["type"], ran.json["userId"]) == ("EARN_ADMIN_ADJUSTMENT", user_id)
    assert arrange(lambda db: balance_of(db, user_id)) == 40
    (action,) = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions"))
    assert (action["action"], action["target"], action["reason"]) == ("tokens_grant", user_id, "sorry")
    assert (action["before"], action["after"]) == ({"balance": 0}, {"balance": 40})
    assert arrange(money_violations) == []


def test_grant_of_a_negative_amount_takes_tokens_but_never_below_zero(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(lambda db: make_user(db, balance=10))

    taken, refused = [darkroom("tokens", "grant", user_id, "--", "-7") for _ in range(2)]

    assert (taken.code, taken.out) == (0, f"{user_id}: -7, balance 3\n")
    assert (refused.code, refused.err) == (
        1,
        f"darkroom: user {user_id} has 3 tokens; taking 7 would leave -4\n",
    )
    assert arrange(lambda db: balance_of(db, user_id)) == 3
    assert len(arrange(lambda db: ledger_of(db, user_id))) == 1
    assert arrange(money_violations) == []


def test_grant_refuses_amounts_that_no_balance_can_hold(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)

    codes = [darkroom("tokens", "grant", user_id, amount).code for amount in ("0", "2147483647", "9999999999999999999")]

    assert codes == [1, 1, 1]
    assert arrange(lambda db: balance_of(db, user_id)) == 100


def test_grant_to_nobody_fails(darkroom: Darkroom) -> None:
    ran = darkroom("tokens", "grant", "nobody@example.test", "5")

    assert (ran.code, ran.out) == (1, "")
    assert "user nobody@example.test not found" in ran.err


def test_grant_is_refused_where_the_application_charges(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    arrange(lambda db: set_mode(db, "producer"))

    ran = darkroom("tokens", "grant", user_id, "5")

    assert ran.code == 1
    assert "mode producer" in ran.err
    assert arrange(lambda db: balance_of(db, user_id)) == 100


def test_balance_of_one_and_of_all(darkroom: Darkroom, arrange: Arrange) -> None:
    rich, poor = arrange(make_user), arrange(lambda db: make_user(db, balance=None))

    one = darkroom("tokens", "balance", rich, "--json").json
    everyone = darkroom("tokens", "balance", "--json").json

    assert (one["userId"], one["balance"], one["tier"]) == (rich, 100, "FREE")
    assert {row["userId"]: row["balance"] for row in everyone} == {rich: 100, poor: 0}


def test_history_is_newest_first(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    for amount in ("1", "2"):
        darkroom("tokens", "grant", user_id, amount)

    rows = darkroom("tokens", "history", user_id, "--json").json

    assert [row["amount"] for row in rows] == [2, 1]
    assert darkroom("tokens", "history", user_id).out.count("EARN_ADMIN_ADJUSTMENT") == 2


def test_another_mode_than_the_recorded_one_stops_every_command(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENS", "external")

    ran = darkroom("tokens", "balance")

    assert ran.code == 2
    assert "TOKENS=external, but the database is in mode managed" in ran.err


AUDIT = 'SELECT "userId", action::text, "targetId", metadata FROM public.audit_logs'


def test_grant_stands_in_the_applications_audit_log(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)

    row = darkroom("tokens", "grant", user_id, "40", "--reason", "sorry", "--json").json

    ((of, action, target, metadata),) = arrange(lambda db: db.fetch(AUDIT))
    assert (of, action, target) == (user_id, "TOKEN_ADJUSTMENT", user_id)
    assert metadata == {
        "amount": 40,
        "balanceAfter": 140,
        "transactionId": row["id"],
        "actor": os_user(),
        "reason": "sorry",
    }


def test_grant_by_a_user_is_that_users_in_the_audit_log(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id, admin = arrange(make_user), arrange(make_user)
    arrange(lambda db: db.fetch("UPDATE public.users SET email = $2 WHERE id = $1", admin, os_user()))

    assert darkroom("tokens", "grant", user_id, "1").code == 0

    ((of, _, target, _),) = arrange(lambda db: db.fetch(AUDIT))
    assert (of, target) == (admin, user_id)


def test_grant_that_is_refused_leaves_no_audit_row(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)

    assert darkroom("tokens", "grant", user_id, "--", "-101").code == 1

    assert arrange(lambda db: db.fetch(AUDIT)) == []


def test_grant_works_where_there_is_no_audit_log(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    arrange(lambda db: db.fetch("ALTER TABLE public.audit_logs RENAME TO audit_logs_away"))
    try:
        assert darkroom("tokens", "grant", user_id, "1").code == 0
    finally:
        arrange(lambda db: db.fetch("ALTER TABLE public.audit_logs_away RENAME TO audit_logs"))


def test_grant_works_where_the_audit_log_asks_for_more_than_we_know(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    arrange(lambda db: db.fetch("ALTER TABLE public.audit_logs ADD tenant text NOT NULL DEFAULT 'one'"))
    arrange(lambda db: db.fetch("ALTER TABLE public.audit_logs ALTER tenant DROP DEFAULT"))
    try:
        assert darkroom("tokens", "grant", user_id, "1").code == 0
    finally:
        arrange(lambda db: db.fetch("ALTER TABLE public.audit_logs DROP tenant"))
