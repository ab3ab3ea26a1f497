"""Commands about tokens: balance, grant, history, audit."""

from typing import Annotated

import typer

from workers.cli.failures import DONE, FAILED
from workers.cli.opening import run_with_runtime
from workers.cli.output import print_json
from workers.cli.parameters import Json, Limit, Reason
from workers.cli.tables import Column, column, note_count, print_table
from workers.operations.actions import os_user
from workers.operations.audit import audit_tokens, list_owed_refunds, repair_tokens
from workers.operations.tokens import count_balances, count_transactions, grant_tokens, list_balances, list_transactions
from workers.presentation.values import camel_case
from workers.process.runtime import Runtime

User = Annotated[str, typer.Argument(metavar="USER", help="The user, given by e-mail or id.")]


def balance(
    user: Annotated[
        str | None, typer.Argument(metavar="USER", help="The user, given by e-mail or id. Without it, all users.")
    ] = None,
    limit: Limit = 50,
    *,
    as_json: Json = False,
) -> int:
    """Show the balance of a user, or of all users."""

    async def work(runtime: Runtime) -> int:
        balances = await list_balances(runtime, user, limit=limit)
        if as_json:
            rows = [camel_case(one) for one in balances]
            print_json(rows if user is None else rows[0])
            return DONE
        columns = [column("email"), column("user_id", "user"), column("tier"), column("balance", is_number=True)]
        print_table(balances, columns, empty="there are no users")
        await note_count(len(balances), limit, "users", lambda: count_balances(runtime, user))
        return DONE

    return run_with_runtime(work, for_pictures=True)


def grant(
    user: User,
    amount: Annotated[
        int, typer.Argument(metavar="AMOUNT", help="How many tokens are added. To take 5 away, write -- -5.")
    ],
    reason: Reason = None,
    *,
    as_json: Json = False,
) -> int:
    """Add tokens to a balance.

    Writes a ledger row (EARN_ADMIN_ADJUSTMENT). The command is refused unless Darkroom keeps the balances
    (TOKENS=managed).
    """

    async def work(runtime: Runtime) -> int:
        row = await grant_tokens(runtime, user, amount, actor=os_user(), reason=reason)
        if as_json:
            print_json(row.columns)
        else:
            typer.echo(f"{user}: {amount:+,}, balance {row.balance_after:,}")
        return DONE

    return run_with_runtime(work, for_pictures=True)


def history(user: User, limit: Limit = 50, *, as_json: Json = False) -> int:
    """Show the ledger of a user, newest row first."""

    async def work(runtime: Runtime) -> int:
        rows = await list_transactions(runtime, user, limit=limit)
        if as_json:
            print_json([row.columns for row in rows])
            return DONE
        print_table(
            rows,
            [
                Column("when", lambda row: row.columns["createdAt"]),
                Column("amount", lambda row: f"{row.amount:+,}", is_number=True),
                column("balance_after", "balance", is_number=True),
                Column("type", lambda row: row.columns["type"]),
                Column("source", lambda row: row.columns["source"], is_wide=True),
                Column("job", lambda row: row.columns["sourceId"], is_wide=True),
                column("reason", is_wide=True, may_wrap=True),
            ],
            empty=f"{user} has no ledger yet",
        )
        await note_count(len(rows), limit, "entries", lambda: count_transactions(runtime, user))
        return DONE

    return run_with_runtime(work, for_pictures=True)


def audit(
    reason: Reason = None,
    *,
    repair: Annotated[
        bool, typer.Option("--repair", help="Correct what can be corrected without taking tokens from a user.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Compare balances, ledger or entries, and jobs of all users.

    Names each violation, and each refund that is owed because the database refused it. --repair records missing opening
    balances, pays missing and owed refunds, raises balances that are below their ledger or entries, and records what a
    balance of an application's own has beyond its entries; it never takes tokens and changes no ledger row. The exit
    code is 1 if violations or owed refunds remain.
    """

    async def work(runtime: Runtime) -> int:
        repaired = await repair_tokens(runtime, actor=os_user(), reason=reason) if repair else []
        remaining, owed = await audit_tokens(runtime), await list_owed_refunds(runtime)
        if as_json:
            print_json(
                {
                    "violations": [camel_case(one) for one in remaining],
                    "owed": [camel_case(one) for one in owed],
                    "repaired": [camel_case(one) for one in repaired],
                }
            )
            return FAILED if remaining or owed else DONE
        columns = [
            column("promise"),
            column("violation"),
            column("user_id", "user", is_wide=True),
            column("job_id", "job", is_wide=True),
            column("finding", may_wrap=True),
        ]
        if repaired:
            typer.echo("set right:")
            print_table(repaired, columns, empty="")
            typer.echo()
        print_table(remaining, columns, empty="every charge, refund and balance is as promised")
        if owed:
            typer.echo("\nowed, because the database refused to pay it back:")
            owed_columns = [
                column("user_id", "user", is_wide=True),
                column("job_id", "job"),
                column("owed", is_number=True),
                column("refused_at", "since", is_wide=True),
                column("words", "PostgreSQL says", may_wrap=True),
            ]
            print_table(owed, owed_columns, empty="")
        return FAILED if remaining or owed else DONE

    return run_with_runtime(work)
