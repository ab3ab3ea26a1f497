"""The result of a command that a test has called, and the types of the fixtures that call commands."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ran:
    """The result of a command: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Darkroom = Callable[..., Ran]
Arrange = Callable[[Callable[..., Any]], Any]
