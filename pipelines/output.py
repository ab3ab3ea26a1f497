"""The interface of outputs of stages."""

from collections.abc import Mapping
from typing import Any, Protocol, Self


class Output(Protocol):
    """The output of a stage.

    It is stored as JSON in the stage's checkpoint, and read again when a run resumes after the stage.
    """

    def to_json(self) -> dict[str, Any]:
        """Return all that later stages and people need of the output, as JSON."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Build the output from the JSON of `to_json`.

        Raise an error for a wrong value, which another program may have written.

        Raises:
            ValueError, TypeError, LookupError, AttributeError: it can't be read; the stage runs again.
        """
