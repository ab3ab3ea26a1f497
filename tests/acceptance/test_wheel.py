"""The built wheel in an empty environment, run from a folder that has modules with the names of ours."""

import os
import shutil
import site
import subprocess
import sys
import venv
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support.locks.lock import ROOT, RUNS, versions
from tests.support.patience import HANGS_AFTER_S

HIDDEN = """
import sys

class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {names}:
            raise ModuleNotFoundError(name + " isn't in the lock of what runs", name=name)

sys.meta_path.insert(0, Hidden)
"""


def modules_of_the_other_lock() -> set[str]:
    """Names of all modules here that no package of the lock of what runs provides."""
    runs = {*versions(ROOT / RUNS), "darkroom"}
    return {
        module
        for module, packages in packages_distributions().items()
        if not runs & {canonicalize_name(name) for name in packages}
    }


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Folder of programs of an environment that holds the wheel and, by reference, the packages of what runs."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".venv", ".git", "*.egg-info", "build", "dist", "tests", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    pip = [sys.executable, "-m", "pip"]
    subprocess.run(
        [*pip, "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, source],
        check=True,
    )
    environment = folder / "environment with space"
    venv.create(environment, with_pip=False)
    packages = next(environment.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text("\n".join([*site.getsitepackages(), "import hidden"]))
    (packages / "hidden.py").write_text(HIDDEN.format(names=modules_of_the_other_lock()))
    wheel = next(folder.glob("darkroom-*.whl"))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "--python",
            environment / "bin/python",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            wheel,
        ],
        check=True,
    )
    return environment / "bin"


@pytest.fixture
def decoy(tmp_path) -> Path:
    """A folder in which `import config` and `import models` would find the wrong thing."""
    (tmp_path / "config.py").write_text("raise RuntimeError('the wrong config')\n")
    for name in ("models", "workers", "pipelines"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('the wrong {name}')\n")
    return tmp_path


def test_wheel_enhances_a_picture_from_a_folder_of_decoys(installed, decoy, services):
    environment = {"HOME": str(decoy), "PATH": os.environ["PATH"], "DARKROOM_HOME": str(decoy / "home")}
    picture = ROOT / "samples/dark.jpg"

    done = subprocess.run(
        [installed / "darkroom", "enhance", picture, "--out", decoy / "out"],
        cwd=decoy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )

    assert (done.returncode, (decoy / "out/dark.jpg").exists()) == (0, True), done.stdout + done.stderr
