"""A job's place and the estimate of its end, in words and as JSON."""

from typing import Any

from models.queue.outlook import Outlook
from workers.presentation.values import duration


def outlook_fields(outlook: Outlook) -> dict[str, Any]:
    """Return an outlook as commands print it with --json: times in seconds, ranges as pairs, or None."""
    return {
        "place": outlook.place,
        "etaS": _rounded(outlook.eta_s),
        "eta50S": _pair(outlook.eta_50_low_s, outlook.eta_50_high_s),
        "eta90S": _pair(outlook.eta_90_low_s, outlook.eta_90_high_s),
        "waitsFor": outlook.waits_for,
    }


def short_words(outlook: Outlook) -> str:
    """Return place and estimate as few words, such as `place 13, about 3 min 05 s`; empty if neither is known."""
    place = [] if outlook.place is None else [f"place {outlook.place:,}"]
    eta = [] if outlook.eta_s is None else [f"about {duration(outlook.eta_s)}"]
    return ", ".join([*place, *eta])


def outlook_words(outlook: Outlook) -> str:
    """Return a line about a job's place and end, and what the estimate assumes."""
    parts = [] if outlook.place is None else [f"place {outlook.place:,}"]
    if outlook.eta_s is not None:
        parts.append(
            f"about {duration(outlook.eta_s)} left"
            f" (half of such jobs: {duration(outlook.eta_50_low_s)} to {duration(outlook.eta_50_high_s)},"
            f" nine of ten: {duration(outlook.eta_90_low_s)} to {duration(outlook.eta_90_high_s)})"
        )
    return ": ".join(part for part in ("; ".join(parts), outlook.waits_for) if part)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _pair(low_s: float | None, high_s: float | None) -> list[float | None] | None:
    return None if low_s is None else [_rounded(low_s), _rounded(high_s)]
