"""The result of one check."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found. `advice` is empty if there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    advice: str = ""
