"""What was counted, as tests compare it: by name and labels, without the parts of histograms but their counts."""

from workers.metrics.families import FAMILIES
from workers.metrics.recording import Recording
from workers.metrics.values import SUM

HISTOGRAMS = {one.name for one in FAMILIES if one.kind == "histogram"}


def counted(recording: Recording, *names: str) -> dict[tuple[str, ...], float]:
    """Return the values above 0 of some families, by family and labels; of a histogram how many values it has."""
    found: dict[tuple[str, ...], float] = {}
    for (name, labels, part), value in recording.values.read().items():
        if value and (not names or name in names) and not (name in HISTOGRAMS and part == SUM):
            found[name, *labels] = found.get((name, *labels), 0) + value
    return found
