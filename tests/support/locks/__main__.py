"""`python -m tests.support.locks split|install`: the last two steps of `make lock`."""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.support.locks.checkout import PIPS, Checkout
from tests.support.locks.local_index import LocalIndex, newer
from tests.support.locks.lock import DEVELOPS, DEVELOPS_GROUPS, ROOT, RUNS, RUNS_GROUPS, needed, roots, split, versions


def main() -> int:
    """Parse, run, print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.locks", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command")
    dividing = commands.add_parser("split", help="write both locks from that of everything and that of what runs")
    dividing.add_argument("everything", type=Path)
    dividing.add_argument("runs", type=Path)
    installing = commands.add_parser("install", help="install the locks beside a newer version of every package")
    installing.add_argument("folder", type=Path, help="is made, and holds about 3 GB")
    given = parser.parse_args()
    if given.command == "split":
        runs, develops = split(given.everything.read_text(), given.runs.read_text())
        (ROOT / RUNS).write_text(runs)
        (ROOT / DEVELOPS).write_text(develops)
        return 0
    index = index_of_everything(given.folder)
    wrong = [line for pip in PIPS for line in install(given.folder / pip, index, pip)]
    sys.stderr.write("".join(f"{line}\n" for line in wrong))
    return 1 if wrong else 0


def index_of_everything(folder: Path) -> LocalIndex:
    """Return an index of the real wheels of both locks, and of a newer version of each."""
    wheels = folder / "wheels"
    downloading = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--require-hashes", "--only-binary", ":all:", "--dest", wheels),
            *("--requirement", ROOT / RUNS, "--requirement", ROOT / DEVELOPS),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if downloading.returncode:
        raise SystemExit(downloading.stderr)
    index = LocalIndex(folder / "index")
    for wheel in sorted(wheels.iterdir()):
        index.add(wheel)
    for name, version in (versions(ROOT / RUNS) | versions(ROOT / DEVELOPS)).items():
        index.add_empty(name, newer(version))
    return index


def install(folder: Path, index: LocalIndex, pip: str) -> list[str]:
    """Set up what runs, then what develops, with one pip; return what is wrong, a line each."""
    checkout = Checkout(folder, index)
    wrong = []
    expected: dict[str, str] = {}
    for target, lock, groups in ((".ready", RUNS, RUNS_GROUPS), (".ready-dev", DEVELOPS, DEVELOPS_GROUPS)):
        done = checkout.make(f".venv/{target}", *PIPS[pip])
        if done.returncode:
            return [f"{lock} isn't installed by {pip} pip:\n{done.stdout}{done.stderr}"]
        expected |= versions(ROOT / lock)
        found = checkout.versions()
        wrong += [
            f"{name} is {found.get(name)} by {pip} pip, and {version} in {lock}"
            for name, version in expected.items()
            if found.get(name) != version
        ]
        wrong += [f"{name} is installed by {pip} pip, and in no lock" for name in set(found) - set(expected) - {"pip"}]
        lacking = needed(roots(*groups), checkout.installed()) - set(expected)
        wrong += [f"{name} is needed, and missing in {lock}" for name in sorted(lacking)]
        sys.stdout.write(f"lock: {lock} installed by {pip} pip\n")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
