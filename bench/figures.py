"""Figures of benchmarks: options, medians, the machine and versions, and their output as JSON or as lines."""

import argparse
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

Figures = dict[str, Any]

LEAST_ROUNDS = 5


def options(doc: str | None, *, rounds: int = LEAST_ROUNDS) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes: --json and --rounds."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object with every figure")
    parser.add_argument(
        "--rounds", type=int, default=rounds, help=f"alternations, of which the median counts: {rounds}"
    )
    return parser


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value under which so many percent lie; `values` needn't be in order."""
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 3)


def machine() -> Figures:
    """Return what figures depend on beside the code: processor, cores, kernel and load, and the time."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].split(":")[1].strip() if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


def note(words: str) -> None:
    """Write a line about the progress to stderr, so that stdout holds the figures only."""
    print(words, file=sys.__stderr__, flush=True)


def show(figures: Figures, *, is_json: bool) -> None:
    """Print figures as one JSON object, or one to a line."""
    if is_json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:36} {json.dumps(value) if isinstance(value, dict | list) else value}")
