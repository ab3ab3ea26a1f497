"""A checkout of only the files that set-up reads, in which `make` runs with a pip configuration of its own."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.utils import canonicalize_name

from tests.support.locks.local_index import LocalIndex
from tests.support.locks.lock import DEVELOPS, ROOT, RUNS

PACKAGES = ("config", "models", "pipelines", "workers", "samples")
PYTHON = Path(sys.base_prefix) / f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
"""The Python below this environment, with the pip that it ships."""
RUNNER = distribution("pip").locate_file("pip/__pip-runner__.py")
"""What `pip --python` itself starts with another Python, so that pip sees nothing of this environment."""
PIPS = {
    "shipped": (),
    "today's": (f"PIP=.venv/bin/python '{RUNNER}'", "VENV_OPTIONS=--without-pip"),
}
"""Name of a pip -> what `make` is told to install with it; today's is this environment's own."""


class Checkout:
    """A folder in which `make` sets Darkroom up from an index of the test's own."""

    def __init__(self, folder: Path, index: LocalIndex) -> None:
        folder.mkdir(parents=True)
        for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE", RUNS, DEVELOPS):
            shutil.copy(ROOT / name, folder)
        for name in PACKAGES:
            (folder / name).mkdir()
            (folder / name / "__init__.py").touch()
        self.folder = folder
        self.index = index

    def lock(self, runs: str, develops: str = "") -> None:
        """Replace both locks."""
        (self.folder / RUNS).write_text(runs)
        (self.folder / DEVELOPS).write_text(develops)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `make` as a user with an empty home, whose pip knows no other index."""
        environment = {
            "HOME": str(self.folder / "home"),
            "PATH": os.environ["PATH"],
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": self.index.url,
            "PIP_NO_CACHE_DIR": "1",
            "PIP_NO_COMPILE": "1",
        }
        return subprocess.run(
            ["make", f"PYTHON={PYTHON}", *arguments],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> dict[str, Distribution]:
        """What lies in the environment, by normalized name."""
        folders = [str(path) for path in self.folder.glob(".venv/lib/python*/site-packages")]
        return {canonicalize_name(found.name): found for found in distributions(path=folders)}

    def versions(self) -> dict[str, str]:
        """Names and versions of what lies in the environment, beside Darkroom itself."""
        return {name: found.version for name, found in self.installed().items() if name != "darkroom"}
