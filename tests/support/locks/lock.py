"""The two lock files: which packages they name for this Python, and how all packages are divided between them."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
RUNS = "requirements.lock"
DEVELOPS = "requirements-dev.lock"
RUNS_GROUPS = ("build", "local", "learned")
DEVELOPS_GROUPS = (*RUNS_GROUPS, "dev")


@dataclass(frozen=True, slots=True)
class Entry:
    """One pinned version in a lock; a package has several where the version depends on the Python."""

    requirement: Requirement
    text: str
    """The entry as it stands in the file, with its hashes, over several lines."""

    @property
    def name(self) -> str:
        """Normalized name of the package."""
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        """The only version that is allowed."""
        (pin,) = self.requirement.specifier
        return pin.version

    @property
    def applies(self) -> bool:
        """Whether it is installed on this platform by this Python."""
        return self.requirement.marker is None or self.requirement.marker.evaluate()


def entries(text: str) -> list[Entry]:
    """Entries of a lock, in its order."""
    found = re.findall(r"^\S.*\n(?:[ \t]+.*\n)*", text, flags=re.MULTILINE)
    return [Entry(Requirement(entry.split("\\\n")[0].strip()), entry) for entry in found]


def versions(path: Path) -> dict[str, str]:
    """Names and versions that the lock installs here."""
    return {entry.name: entry.version for entry in entries(path.read_text()) if entry.applies}


def split(everything: str, runs: str) -> tuple[str, str]:
    """Divide the lock of everything into what runs and what is needed beyond.

    Args:
        everything: lock of all dependencies, resolved together.
        runs: lock of what runs alone; only its names are used, so that markers are wide enough for both.
    """
    names = {entry.name for entry in entries(runs)}
    both: tuple[list[str], list[str]] = ([], [])
    for entry in entries(everything):
        both[entry.name not in names].append(entry.text)
    return "".join(both[0]), "".join(both[1])


def roots(*groups: str) -> list[Requirement]:
    """What pyproject.toml asks for: Darkroom's own dependencies and those of dependency groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    asked = list(project["project"]["dependencies"])
    for group in groups:
        asked += project["dependency-groups"][group]
    return [Requirement(line) for line in asked]


def corrected() -> dict[str, list[str]]:
    """What packages need where pyproject.toml knows better than their own metadata, by normalized name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return {
        canonicalize_name(each["name"]): each["requires-dist"] for each in project["tool"]["uv"]["dependency-metadata"]
    }


def needed(asked: Iterable[Requirement], found: Mapping[str, Distribution]) -> set[str]:
    """Names of all that the requirements need on this platform, by the metadata of what was found, extras included.

    Where pyproject.toml corrects a package's metadata for the resolver, it is the correction that counts.

    A package that was not found is named, and what it needs isn't known.
    """
    seen: set[tuple[str, str]] = set()
    corrections = corrected()
    waiting = [(requirement, "") for requirement in asked]
    while waiting:
        requirement, asking_extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": asking_extra}):
            continue
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {known for other, known in seen if other == name}:
            seen.add((name, extra))
            lines = corrections.get(name, found[name].requires or ()) if name in found else ()
            waiting.extend((Requirement(line), extra) for line in lines)
    return {name for name, _ in seen}
