"""What the gate allows a provider unless DARKROOM_PROVIDER_LIMITS says otherwise, for Python and SQL."""

from collections.abc import Mapping
from typing import Final

MOST_CONCURRENT: Final = 64
FIRST_CONCURRENT: Final = 16
"""Calls in flight before a provider has said anything: it grows by one a round, and halves with a 429."""

BREAKER_FAILURES: Final = 5
"""So many failures in a row open a provider's breaker."""

BREAKER_S: Final = 10
"""How long a breaker stays open at first; twice as long each further time."""

WARNING_FRACTION: Final = 0.8
"""Of a budget: from here on it is said to be nearly spent."""

ZONES: Final[Mapping[str, str]] = {"gemini": "America/Los_Angeles"}
"""Where a provider's day of quota begins; UTC unless it says otherwise (Gemini: midnight Pacific, read 2026-11-20)."""

OTHER_ZONE: Final = "UTC"
