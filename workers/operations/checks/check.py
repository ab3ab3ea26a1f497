"""One thing that was looked at, and what was found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `advice` is empty where there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    advice: str = ""
