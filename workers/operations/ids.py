"""Whole ids of what people name by the beginning of an id."""

from typing import Final

from models.queue.ids import Kind, ids_beginning
from workers.operations.errors import OperationError
from workers.process.runtime import Runtime

MOST_NAMED: Final = 3
"""Ids that the refusal of an ambiguous beginning names."""


class AmbiguousIdError(OperationError):
    """Several ids begin with what was given."""

    def __init__(self, kind: Kind, beginning: str, ids: list[str]) -> None:
        more = " and others" if len(ids) > MOST_NAMED else ""
        named = ", ".join(ids[:MOST_NAMED])
        super().__init__(f"{kind} {beginning}: {named}{more} begin so; give more of the id")


async def whole_id(runtime: Runtime, kind: Kind, given: str) -> str:
    """Return the id that is meant: the one given, or the only one that begins with it.

    What no id begins with comes back as it is: whoever looks for it says that there is none.

    Raises:
        AmbiguousIdError: several ids begin so, and none is it.
    """
    if not given:
        return given
    found = await runtime.database.run(lambda connection: ids_beginning(connection, kind, given, MOST_NAMED + 1))
    if len(found) > 1:
        raise AmbiguousIdError(kind, given, found)
    return found[0] if found else given
