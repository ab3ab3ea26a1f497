"""CPU seconds (user and system) of commands, measured when the embedded services and workers run already.

Run it from the checkout: `python bench/command_line.py [--runs 9] [--against ANOTHER_CHECKOUT]`. The other checkout
needs a virtual environment of its own in `.venv`; its commands are run in turn with this checkout's, and the medians of
both are printed side by side.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
COMMANDS = (
    ("--help",),
    ("jobs", "--help"),
    ("jobs", "list", "--help"),
    ("jobs", "list"),
    ("queue", "stats"),
    ("tokens", "balance"),
    ("pipelines", "list"),
    ("costs",),
    ("schedule", "list"),
    ("config",),
    ("enhance", "--help"),
)
READY_S = 90.0


def program(checkout: Path) -> Path:
    return checkout / ".venv/bin/darkroom"


@contextmanager
def running(checkout: Path, home: Path) -> Iterator[None]:
    """Run `darkroom up` of a checkout during the context, with a temporary DARKROOM_HOME."""
    environment = os.environ | {"DARKROOM_HOME": str(home)}
    up = subprocess.Popen(
        [program(checkout), "up", "--processes", "1"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert up.stdout is not None
        until_s = time.monotonic() + READY_S
        while "ready" not in (line := up.stdout.readline().decode()):
            assert line, "darkroom up ended"
            assert time.monotonic() < until_s, "darkroom up isn't ready"
        yield
    finally:
        up.terminate()
        up.wait(60)


def cpu_s(checkout: Path, home: Path, command: tuple[str, ...]) -> float:
    """Run a command; return its CPU seconds, including those of its children."""
    child = subprocess.Popen(
        [program(checkout), *command],
        env=os.environ | {"DARKROOM_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, f"darkroom {' '.join(command)} ended with {child.returncode}"
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn with this one")
    options = parser.parse_args()
    checkouts = [HERE, *([options.against.resolve()] if options.against else [])]
    with tempfile.TemporaryDirectory(prefix="dk", dir="/tmp") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the embedded PostgreSQL may run as another user
        homes = {checkout: Path(folder) / f"home{number}" for number, checkout in enumerate(checkouts)}
        with ExitStack() as stack:
            for checkout in checkouts:
                stack.enter_context(running(checkout, homes[checkout]))
            for command in COMMANDS:
                turns = [[cpu_s(one, homes[one], command) for one in checkouts] for _ in range(options.runs)]
                figures = "  ".join(f"{statistics.median(one):6.3f} s" for one in zip(*turns, strict=True))
                sys.stdout.write(f"{figures}  darkroom {' '.join(command)}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
