"""Formatting of durations for people."""

from typing import Final

_MINUTE_S: Final = 60
_HOUR_S: Final = 3600
_TENS_S: Final = 10


def span(seconds: float) -> str:
    """Return a duration in words: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    whole = round(max(0.0, float(seconds)))
    if whole < _TENS_S:
        return f"{max(0.0, float(seconds)):.1f} s"
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
