"""What `db upgrade` records of the applications, and the applications that this describes.

Every other process uses what is recorded: workers never read the path of an operator's file.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from models.applications import registry
from models.applications.application import Application
from models.applications.files.described import described

KEY: Final = "applications"
"""Key in darkroom.settings. Its value is an array of objects with `entry`, as DARKROOM_APPLICATION names it, `name` and
`schema`; for a file also `file` (its name), `source` (its text) and `facts` (of its tables when it was recorded)."""

OF_EARLIER: Final[Sequence[Mapping[str, Any]]] = ({"entry": "pictures", "name": "pictures", "schema": "public"},)
"""What holds where a release that knew only `pictures` has upgraded the database."""


class ApplicationMismatchError(Exception):
    """Raised when DARKROOM_APPLICATION isn't what `db upgrade` recorded."""

    def __init__(self, wanted: Sequence[str], recorded: Sequence[str]) -> None:
        super().__init__(
            f"DARKROOM_APPLICATION={','.join(wanted)}, but the database was upgraded for {','.join(recorded)}; "
            "unset DARKROOM_APPLICATION, or run `darkroom db upgrade` with it"
        )


def use_recorded(recorded: Sequence[Mapping[str, Any]] | None, wanted: Sequence[str] | None = None) -> None:
    """Let this process drain what is recorded; None where nothing is.

    Args:
        recorded: the value of KEY in darkroom.settings.
        wanted: the entries of DARKROOM_APPLICATION; None if it isn't set.

    Raises:
        ApplicationMismatchError: DARKROOM_APPLICATION names other applications.
    """
    require_named(recorded, wanted)
    registry.use(applications_of(recorded))


def require_named(recorded: Sequence[Mapping[str, Any]] | None, wanted: Sequence[str] | None) -> None:
    """Check, with the arguments of `use_recorded`, that a process may drain what is recorded.

    Raises:
        ApplicationMismatchError: DARKROOM_APPLICATION names other applications.
    """
    entries = [one["entry"] for one in recorded or OF_EARLIER]
    if wanted is not None and sorted(wanted) != sorted(entries):
        raise ApplicationMismatchError(wanted, entries)


def applications_of(recorded: Sequence[Mapping[str, Any]] | None) -> tuple[Application, ...]:
    """Return the applications that are recorded, the same values each time; None where nothing is recorded."""
    return _applications(json.dumps(list(recorded or OF_EARLIER), sort_keys=True))


@lru_cache(maxsize=64)
def _applications(recorded: str) -> tuple[Application, ...]:
    return tuple(_application(one) for one in json.loads(recorded))


def _application(one: Mapping[str, Any]) -> Application:
    if "source" in one:
        return described(one["source"], one["file"], one["schema"], one["facts"])
    return registry.SHIPPED[one["name"]](one["schema"])
