"""The choices that a job's own row makes for it, as one JSON object named `parameters`."""

from collections.abc import Mapping
from typing import Any, Final

from config.values import value
from pipelines.errors import InvalidOptionsError
from pipelines.options import check
from pipelines.requests import aspect_of

PARAMETERS: Final = "parameters"
"""What the paths of such choices begin with, in messages."""

KEYS: Final = ("size", "count", "aspect", "model", "temperature")
"""The keys that the object may have. `size` and `count` are checked where the row is inserted."""


@value
class Parameters:
    """Choices of one job; None leaves one to the provider. `aspect` is `W:H`."""

    aspect: str | None = None
    model: str | None = None
    temperature: float | None = None


def read_parameters(parameters: Any) -> Parameters:
    """Check a job's `parameters`, and return those that its row has in no other form. Null means: not chosen.

    Raises:
        InvalidOptionsError: a key is unknown, or a value breaks a rule; the message begins with the path.
    """
    if not isinstance(parameters, Mapping):
        raise InvalidOptionsError(f"{PARAMETERS}: must be an object")
    for key in parameters:
        if key not in KEYS:
            raise InvalidOptionsError(f"{PARAMETERS}.{key[:60]}: unknown key; known are {', '.join(KEYS)}")
    aspect = parameters.get("aspect")
    if aspect is not None and not isinstance(aspect, str):
        raise InvalidOptionsError(f"{PARAMETERS}.aspect: must be a string such as 16:9")
    aspect_of(aspect, f"{PARAMETERS}.aspect: ")
    generation = {key: parameters.get(key) for key in ("model", "temperature")}
    check({"generationConfig": generation}, {"generationConfig": PARAMETERS})
    return Parameters(aspect, **generation)
