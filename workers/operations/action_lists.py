"""The list of what operators did."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.history.actions import ActionRow, newest_actions
from workers.operations.cursors import decoded, encoded, number_of, time_of
from workers.process.runtime import Runtime

PAGE_ACTIONS: Final = 100


@dataclass(frozen=True, slots=True)
class ActionsPage:
    """A page of the list: actions, the newest first, and the cursor of the next page; None if this is the last one."""

    actions: Sequence[ActionRow]
    next: str | None


async def actions_page(runtime: Runtime, cursor: str | None = None) -> ActionsPage:
    """Return up to PAGE_ACTIONS of the actions behind a cursor.

    Raises:
        InvalidInputError: the cursor is none of this list.
    """
    behind = None
    if cursor is not None:
        at, number = decoded(cursor, 2)
        behind = (time_of(at), number_of(number))
    found = await runtime.database.run(lambda connection: newest_actions(connection, PAGE_ACTIONS + 1, behind))
    shown = found[:PAGE_ACTIONS]
    is_last = len(found) == len(shown)
    return ActionsPage(shown, None if is_last else encoded([shown[-1].at.isoformat(), shown[-1].id]))
