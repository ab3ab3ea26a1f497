"""Operators: who may sign in to the dashboard."""

import difflib
import unicodedata
from dataclasses import dataclass
from typing import Final

from models.connections import Connection
from models.history.actions import record_action
from models.operators import operators
from models.operators.operators import OperatorRecord, Role
from workers.operations.errors import InvalidInputError, NotFoundError
from workers.process.runtime import Runtime

MOST_CHARACTERS: Final = 64
NEAR: Final = 0.7
"""How similar (0 to 1) a name must be to an operator's for the message to suggest that operator."""


@dataclass(frozen=True, slots=True)
class Removed:
    """An operator who was removed: the role, and how many open sessions ended."""

    name: str
    role: Role
    sessions: int


def operator_name(text: str) -> str:
    """Return a name as it is stored: visible characters, of which accents are parts (Unicode's form NFC).

    Raises:
        InvalidInputError: the text isn't 1 to 64 visible characters.
    """
    name = unicodedata.normalize("NFC", text)
    if not 1 <= len(name) <= MOST_CHARACTERS or not all(one.isprintable() and not one.isspace() for one in name):
        raise InvalidInputError(f"{text[:80]!r} is no name: give 1 to {MOST_CHARACTERS} visible characters, no spaces")
    return name


async def list_operators(runtime: Runtime) -> list[OperatorRecord]:
    """Return all operators, by name."""
    return await runtime.database.run(operators.list_operators)


async def add_operator(
    runtime: Runtime, name: str, role: Role, password_hash: str, *, replaces: bool = False, actor: str
) -> OperatorRecord:
    """Add an operator, or give the one of this name another role and password; return the operator's row.

    Args:
        runtime: an open runtime.
        name: of the operator.
        role: what the operator may do.
        password_hash: made by `workers.operations.passwords.new_hash`.
        replaces: change the operator of this name, whose sessions end.
        actor: who does it, for the record.

    Raises:
        InvalidInputError: the name isn't one, or there is an operator of this name and `replaces` is false.
        NotFoundError: there is no operator of this name and `replaces` is true.
    """
    name = operator_name(name)

    async def add(connection: Connection) -> OperatorRecord:
        async with connection.transaction():
            before: Role | None = None
            if replaces:
                before = await operators.change_operator(connection, name, role, password_hash)
                if before is None:
                    raise NotFoundError(f"there is no operator {name}; without --replace, the command adds one")
            elif not await operators.insert_operator(connection, name, role, password_hash):
                raise InvalidInputError(
                    f"there is an operator {name} already; --replace gives them another role and password"
                )
            await record_action(
                connection,
                actor=actor,
                action="operator_replace" if replaces else "operator_add",
                target=name,
                before=None if before is None else {"role": before},
                after={"role": role},
            )
            (row,) = await operators.list_operators(connection, name)
            return row

    return await runtime.database.commit("add_operator", add)


async def remove_operator(runtime: Runtime, name: str, *, actor: str, reason: str | None = None) -> Removed:
    """Remove an operator; open sessions end at once.

    Raises:
        NotFoundError: there is no operator of this name.
    """
    name = unicodedata.normalize("NFC", name)

    async def remove(connection: Connection) -> Removed:
        async with connection.transaction():
            found = await operators.list_operators(connection, name)
            role = await operators.delete_operator(connection, name)
            if role is None:
                known = [one.name for one in await operators.list_operators(connection)]
                near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
                meant = f"did you mean {near[0]}? " if near else ""
                raise NotFoundError(f"there is no operator {name!r}; {meant}`darkroom operators list` shows them all")
            sessions = sum(one.sessions for one in found)
            await record_action(
                connection,
                actor=actor,
                action="operator_remove",
                target=name,
                before={"role": role},
                after={"sessionsEnded": sessions},
                reason=reason,
            )
            return Removed(name, role, sessions)

    return await runtime.database.commit("remove_operator", remove)
