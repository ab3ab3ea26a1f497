"""`python -m tests.chaos --seed 7 --minutes 45 --jobs 10000`: runs once; exits with 1 if a promise was broken."""

import argparse
import asyncio
import dataclasses
import signal
import sys
import tempfile
from pathlib import Path

from tests.chaos.plan import PER_MINUTE, Options
from tests.chaos.run import run

LOSABLE = {"fsync": "off", "full_page_writes": "off"}
"""A process that dies loses nothing of what it gave to the kernel: syncing is against power cuts."""


def main() -> int:
    """Parse, run, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    defaults = Options()
    for name in ("seed", "jobs", "supervisors", "processes", "lanes", "schedulers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    for name in ("minutes", "lease_s", "grace_s", "slowest_call_s", "hang_s", "storage_fault_s", "drain_s"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(defaults, name))
    for kind in PER_MINUTE:
        parser.add_argument(f"--{kind.replace('_', '-')}", type=int, help="how many; otherwise by the minute")
    parser.add_argument(
        "--tables", default=defaults.tables, help="modules that add job tables, with commas: see tests.chaos.added"
    )
    parser.add_argument("--folder", type=Path, help="where logs, data and report.json go; a new one is made otherwise")
    parser.add_argument("--fast", action="store_true", help="PostgreSQL without fsync")
    given = parser.parse_args()
    counts = {kind: count for kind in PER_MINUTE if (count := getattr(given, kind)) is not None}
    names = {field.name for field in dataclasses.fields(Options)} - {"counts"}
    options = Options(**{name: getattr(given, name) for name in names}, counts=counts)
    folder = given.folder or Path(tempfile.mkdtemp(prefix="dkc", dir="/tmp"))
    sys.stderr.write(f"chaos: seed {options.seed}, logs in {folder}\n")
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    report = asyncio.run(run(options, folder, postgres_settings=LOSABLE if given.fast else None))
    report.save(folder / "report.json")
    sys.stdout.write(report.text() + f"\n{folder / 'report.json'}\n")
    return 1 if report.violations or report.facts["drained_s"] is None else 0


if __name__ == "__main__":
    sys.exit(main())
