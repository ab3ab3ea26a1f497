"""What came of steering queues, providers, schedules and buying, in words."""

from collections.abc import Mapping

from workers.operations.pauses import Kind


def pause_words(kind: Kind, value: str, *, is_paused: bool, shut: Mapping[str, str]) -> str:
    """Return what came of a pause, or of its end.

    Args:
        kind: of what is paused.
        value: its name.
        is_paused: whether the pause began.
        shut: why providers may not be called now, by name.
    """
    if is_paused:
        return f"{kind} {value}: paused"
    if kind != "provider":
        return f"{kind} {value}: goes on"
    still = f", but it isn't called yet: {shut[value]}" if value in shut else ""
    return f"{kind} {value}: goes on, its breaker is closed{still}"


def buying_words(*, is_stopped: bool) -> str:
    """Return the state of the kill switch."""
    return "buying is stopped" if is_stopped else "buying goes on"


def counts_words(counts: Mapping[str, int]) -> str:
    """Return what a tick counted: `jobs 3, events 1,200`; empty for nothing."""
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())
