"""Completion of ids that people give by their first characters."""

from typing import Final

from models.queue.ids import Kind, ids_beginning
from workers.operations.errors import OperationError, translated
from workers.process.runtime import Runtime

MOST_NAMED: Final = 3
"""How many ids the error message about an ambiguous beginning lists."""


class AmbiguousIdError(OperationError):
    """Raised when several ids begin with the given text."""

    def __init__(self, kind: Kind, beginning: str, ids: list[str]) -> None:
        more = " and others" if len(ids) > MOST_NAMED else ""
        named = ", ".join(ids[:MOST_NAMED])
        super().__init__(f"{kind} {beginning}: {named}{more} begin so; give more of the id")


async def whole_id(runtime: Runtime, kind: Kind, given: str) -> str:
    """Return the given id, or the only id that begins with the given text.

    A job is asked for and returned by its name: its id, or TABLE/ID where its id stands in several tables. A text with
    which no id begins is returned unchanged: the caller's lookup then reports that it isn't found.

    Raises:
        AmbiguousIdError: several ids begin with it, and none is equal to it.
        InvalidInputError: it is the id of jobs of several tables; the message names each as TABLE/ID.
    """
    if not given:
        return given
    with translated():
        found = await runtime.database.run(lambda connection: ids_beginning(connection, kind, given, MOST_NAMED + 1))
    if len(found) > 1:
        raise AmbiguousIdError(kind, given, found)
    return found[0] if found else given
