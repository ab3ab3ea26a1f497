"""Commands about users: users create, list, show."""

from typing import Annotated

import typer

from models.money.users import UserRecord
from workers.cli.failures import DONE
from workers.cli.opening import run_with_runtime
from workers.cli.output import print_json
from workers.cli.parameters import Json, Limit
from workers.cli.tables import column, note_count, print_fields, print_table
from workers.operations import users
from workers.operations.actions import os_user
from workers.presentation.values import camel_case
from workers.process.runtime import Runtime


def list_(limit: Limit = 50, *, as_json: Json = False) -> int:
    """List users, the newest first."""

    async def work(runtime: Runtime) -> int:
        found = await users.list_users(runtime, limit=limit)
        if as_json:
            print_json([camel_case(user) for user in found])
            return DONE
        columns = [
            column("id", "user"),
            column("email"),
            column("name", is_wide=True),
            column("created_at", "created", is_wide=True),
            column("balance", "tokens", is_number=True),
            column("tier"),
        ]
        print_table(found, columns, empty="there are no users; `darkroom users create EMAIL` makes one")
        await note_count(len(found), limit, "users", lambda: users.count_users(runtime))
        return DONE

    return run_with_runtime(work, for_pictures=True)


def show(
    user: Annotated[
        str, typer.Argument(metavar="USER", help="The user, given by e-mail, id, or the beginning of an id.")
    ],
    *,
    as_json: Json = False,
) -> int:
    """Show a user, the balance, and how many jobs the user has."""

    async def work(runtime: Runtime) -> int:
        found, jobs = await users.get_user(runtime, user)
        if as_json:
            print_json({**camel_case(found), "jobs": jobs})
            return DONE
        counts = ", ".join(f"{count:,} {status}" for status, count in jobs.items())
        print_fields({**_fields(found), "jobs": counts or "none"})
        return DONE

    return run_with_runtime(work, for_pictures=True)


def create(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The e-mail address of the new user.")],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="The user's name. Without it, the part of the e-mail address before the @."
        ),
    ] = None,
    tokens: Annotated[
        int, typer.Option("--tokens", metavar="N", help="The tokens that the user begins with (TOKENS=managed only).")
    ] = 0,
    *,
    as_json: Json = False,
) -> int:
    """Make a user.

    The command is for trying Darkroom without an application, which would make its users itself.
    """

    async def work(runtime: Runtime) -> int:
        made = await users.create_user(runtime, email, name=name, tokens=tokens, actor=os_user())
        if as_json:
            print_json(camel_case(made))
        else:
            print_fields(_fields(made))
        return DONE

    return run_with_runtime(work, for_pictures=True)


def _fields(user: UserRecord) -> dict[str, object]:
    return {
        "user": user.id,
        "email": user.email,
        "name": user.name,
        "created": user.created_at,
        "tokens": user.balance,
        "tier": user.tier,
    }
