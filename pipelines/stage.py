"""Stages: their names, deadlines and functions. A function is imported when it is first called: commands call none."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from pipelines.output import Output

if TYPE_CHECKING:
    from pipelines.stage_context import StageContext


@dataclass(frozen=True, slots=True)
class StageFunction:
    """The function of a stage.

    It is imported when it is first called, because this also imports all modules that make pictures.

    Attributes:
        place: `module:function`.
    """

    place: str

    def __call__(self, context: "StageContext") -> Awaitable[Output | None]:
        """Do the stage's work and return its output; return None if the job's pipeline has switched the stage off."""
        return self.imported()(context)

    def imported(self) -> Callable[["StageContext"], Awaitable[Output | None]]:
        """Import the function, and return it."""
        return _imported(self.place)


@lru_cache
def _imported(place: str) -> Callable[["StageContext"], Awaitable[Output | None]]:
    function: Callable[[StageContext], Awaitable[Output | None]] = resolve_name(place)
    return function


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a job.

    Attributes:
        name: its name in rows, logs and settings.
        run: the function that does the work: it returns the output, or None if the job's pipeline has switched it off.
        output: the type of its output.
        deadline_s: how long it may take unless DARKROOM_STAGE_DEADLINES says otherwise.
    """

    name: str
    run: Callable[["StageContext"], Awaitable[Output | None]]
    output: type[Output]
    deadline_s: float

    def deadline_of(self, settings_s: Mapping[str, float]) -> float:
        """Return how long the stage may take, in seconds; `settings_s` has the settings' deadlines by stage name."""
        return settings_s.get(self.name, self.deadline_s)
