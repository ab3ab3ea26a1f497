"""Commands about who may sign in to the dashboard: operators add, list, remove."""

import getpass
import sys
from enum import StrEnum
from typing import Annotated

import typer

from workers.cli.failures import DONE, CommandUsageError
from workers.cli.lazy import later
from workers.cli.opening import known_settings, run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import Json, Reason
from workers.cli.tables import column, print_table
from workers.operations import operators
from workers.operations.actions import os_user
from workers.presentation.values import camel_case, count_of
from workers.process.runtime import Runtime

MOST_BYTES = 8_192
"""How much of standard input is read: more than any password has."""

new_hash = later("workers.operations.passwords:new_hash")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name by which the operator signs in.")]


class RoleName(StrEnum):
    """A role as people type it."""

    VIEWER = "viewer"
    OPERATOR = "operator"


def add(
    name: Name,
    role: Annotated[RoleName, typer.Option("--role", help="A viewer sees every page; an operator may act, too.")],
    *,
    from_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Read the password from standard input. Without it, you are asked twice."
        ),
    ] = False,
    replaces: Annotated[
        bool,
        typer.Option(
            "--replace", help="Give the operator of this name the role and another password; open sessions end."
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Let a person sign in to the dashboard.

    The password has 8 to 1,024 characters. Once there is an operator, nobody uses the dashboard without signing in.
    """
    known_settings()  # what is wrong is refused before anybody is asked for a password
    operators.operator_name(name)
    password_hash = new_hash(_from_stdin() if from_stdin else _asked())

    async def work(runtime: Runtime) -> int:
        added = await operators.add_operator(
            runtime, name, role.value, password_hash, replaces=replaces, actor=os_user()
        )
        if as_json:
            print_json(camel_case(added))
        else:
            typer.echo(f"{added.name}: {added.role}")
        return DONE

    return run_with_runtime(work)


def list_(*, as_json: Json = False) -> int:
    """List who may sign in to the dashboard, and who is signed in."""

    async def work(runtime: Runtime) -> int:
        found = await operators.list_operators(runtime)
        if as_json:
            print_json([camel_case(one) for one in found])
            return DONE
        columns = [
            column("name"),
            column("role"),
            column("created_at", "created"),
            column("sessions", is_number=True),
            column("seen_at", "seen"),
        ]
        print_table(
            found, columns, empty="there are no operators; `darkroom operators add NAME --role operator` adds one"
        )
        return DONE

    return run_with_runtime(work)


def remove(name: Name, reason: Reason = None, *, as_json: Json = False) -> int:
    """Remove an operator; open sessions end at once."""

    async def work(runtime: Runtime) -> int:
        removed = await operators.remove_operator(runtime, name, actor=os_user(), reason=reason)
        if as_json:
            print_json(camel_case(removed))
        else:
            typer.echo(f"{removed.name}: removed, {count_of(removed.sessions, 'session')} ended")
        if not await operators.list_operators(runtime) and runtime.settings.dashboard_auth is None:
            note("there are no operators any more: a dashboard on loopback is open to everybody on its machine")
        return DONE

    return run_with_runtime(work)


def _asked() -> str:
    """Ask for a new password twice, without showing it."""
    if not sys.stdin.isatty():
        raise CommandUsageError("there is no terminal to ask for the password; give it by --password-stdin")
    try:
        password = getpass.getpass("Password (at least 8 characters): ")
        again = getpass.getpass("Again: ")
    except EOFError as error:
        raise typer.Abort from error
    if again != password:
        raise CommandUsageError("the two passwords differ; nothing was changed")
    return password


def _from_stdin() -> str:
    """Read a password from standard input, up to its end; a newline at the end isn't part of it."""
    given = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(given) > MOST_BYTES:
        raise CommandUsageError(f"standard input has more than {MOST_BYTES:,} bytes; that is no password")
    try:
        return given.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise CommandUsageError("the password on standard input is not UTF-8 text") from error
