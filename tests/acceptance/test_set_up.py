"""`make` installs exactly the locked packages, whatever the index offers, and repairs a broken installation."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.support.locks.checkout import PIPS, PYTHON, Checkout
from tests.support.locks.local_index import LocalIndex, newer
from tests.support.locks.lock import DEVELOPS, ROOT, RUNS, entries, versions

READY, READY_DEV, ENVIRONMENT = ".venv/.ready", ".venv/.ready-dev", ".venv/.runs"
BUILD_META = b"""
import os, zipfile

def build_editable(folder, config_settings=None, metadata_directory=None):
    name = "darkroom-0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("__editable__.darkroom-0.pth", os.getcwd())
        wheel.writestr("darkroom-0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: darkroom\\nVersion: 0\\n")
        wheel.writestr("darkroom-0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("darkroom-0.dist-info/RECORD", "")
    return name
"""
BACKEND = {"setuptools/__init__.py": b"", "setuptools/build_meta.py": BUILD_META}
"""A `setuptools` that can do one thing, and quickly: install a folder as a link to it."""


@pytest.fixture(scope="module")
def shaped(tmp_path_factory) -> tuple[LocalIndex, dict[str, str]]:
    """Return an index of both locks' packages, with their dependencies and newer versions; and the locks."""
    index = LocalIndex(tmp_path_factory.mktemp("index"))
    texts = {}
    for file in (RUNS, DEVELOPS):
        lines = []
        for entry in (entry for entry in entries((ROOT / file).read_text()) if entry.applies):
            installed = distribution(entry.name)
            shape = (installed.requires or [], installed.metadata.get_all("Provides-Extra") or [])
            modules = BACKEND if entry.name == "setuptools" else {}
            sha256 = index.add_modules(entry.name, entry.version, modules, *shape)
            index.add_empty(entry.name, newer(entry.version), *shape)
            lines.append(f"{entry.requirement} --hash=sha256:{sha256}\n")
        texts[file] = "".join(lines)
    return index, texts


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Checkout:
    """Return a checkout set up whole from locks that hold the build tool and `runs`, and beyond them `develops`."""
    folder = tmp_path_factory.mktemp("small")
    index = LocalIndex(folder / "index")
    build = index.add_modules("setuptools", "1", BACKEND)
    checkout = Checkout(folder / "a checkout", index)
    checkout.lock(
        runs=f"setuptools==1 --hash=sha256:{build}\nruns==1 --hash=sha256:{index.add_empty('runs', '1')}\n",
        develops=f"develops==1 --hash=sha256:{index.add_empty('develops', '1')}\n",
    )
    make(checkout, READY_DEV, READY)
    shutil.copytree(checkout.folder, folder / "kept", symlinks=True)
    return checkout


@pytest.fixture
def small(prepared) -> Checkout:
    """Return that checkout as it was made, in its place."""
    shutil.rmtree(prepared.folder)
    shutil.copytree(prepared.folder.parent / "kept", prepared.folder, symlinks=True)
    return prepared


def make(checkout: Checkout, *targets: str) -> str:
    """Make targets with today's pip, and return what was printed."""
    done = checkout.make(*targets, *PIPS["today's"])
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def steps(printed: str) -> list[str]:
    return [line for line in printed.splitlines() if line.startswith("set-up")]


def test_index_offers_a_newer_version_of_every_locked_package(shaped):
    index, _ = shaped
    locked = versions(ROOT / RUNS) | versions(ROOT / DEVELOPS)
    offering = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-deps", "--isolated"]

    chosen = subprocess.run(
        [*offering, "--index-url", index.url, *locked], capture_output=True, text=True, check=True
    ).stdout

    offered = {f"{name}-{newer(version)}" for name, version in locked.items()}
    assert {canonicalize_name(word) for word in chosen.split("Would install ")[1].split()} == {
        *map(canonicalize_name, offered)
    }


@pytest.mark.parametrize("pip", PIPS)
def test_exactly_the_locked_versions_are_installed(shaped, tmp_path, pip):
    index, texts = shaped
    checkout = Checkout(tmp_path / "a checkout", index)
    checkout.lock(texts[RUNS], texts[DEVELOPS])

    first = checkout.make(READY, *PIPS[pip])
    runs = {name: version for name, version in checkout.versions().items() if name != "pip"}
    second = checkout.make(READY_DEV, READY, *PIPS[pip])

    assert (first.returncode, second.returncode) == (0, 0), first.stdout + first.stderr + second.stdout + second.stderr
    assert runs == versions(ROOT / RUNS)
    assert checkout.versions() == versions(ROOT / RUNS) | versions(ROOT / DEVELOPS)
    assert len(steps(second.stdout)) == 1


def test_second_make_installs_nothing(small):
    assert steps(make(small, READY_DEV, READY)) == []


def test_pyproject_that_changed_installs_only_darkroom_again(small):
    (small.folder / "pyproject.toml").touch()

    assert steps(make(small, READY_DEV, READY)) == ["set-up: install Darkroom, as a link to this folder"]


def test_package_that_the_index_lacks_fails_with_pips_words_and_the_next_make_mends_it(small):
    locked = (small.folder / RUNS).read_text()
    (small.folder / RUNS).write_text(locked.replace("runs==1", "runs==2"))

    failed = small.make(ENVIRONMENT, *PIPS["today's"])
    stamped = (small.folder / ENVIRONMENT).exists()
    (small.folder / RUNS).write_text(locked)
    make(small, ENVIRONMENT)

    assert (failed.returncode, stamped) == (2, False)
    assert "runs==2" in failed.stderr
    assert "runs" in small.versions()


@pytest.mark.parametrize(("package", "stamp"), [("runs", ENVIRONMENT), ("develops", READY_DEV)])
def test_installation_that_was_killed_halfway_is_mended(small, package, stamp):
    record = Path(small.installed()[package].locate_file(f"{package}-1.dist-info/RECORD"))
    record.unlink()  # pip writes it last, and takes a package without it for installed
    (small.folder / stamp).unlink()

    make(small, stamp)

    assert record.exists()


@pytest.mark.parametrize("lock", [RUNS, DEVELOPS])
def test_package_that_left_a_lock_leaves_the_environment_and_darkroom_stays(small, lock):
    *kept, gone = (small.folder / lock).read_text().splitlines(keepends=True)
    (small.folder / lock).write_text("".join(kept) or "# empty\n")

    make(small, READY_DEV, READY)

    assert gone.split("==")[0] not in small.versions()
    assert "darkroom" in small.installed()


def test_environment_whose_python_is_gone_is_made_again(small):
    python = small.folder / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3")

    make(small, ENVIRONMENT)

    assert subprocess.run([python, "-c", "import setuptools"], check=False).returncode == 0


def test_checkout_that_was_moved_runs_its_own_code(small, tmp_path):
    moved = Checkout(tmp_path / "moved", small.index)
    shutil.rmtree(moved.folder)
    small.folder.rename(moved.folder)
    small.folder.mkdir()

    make(moved, READY)

    asking = [moved.folder / ".venv/bin/python", "-c", "import config; print(config.__file__)"]
    printed = subprocess.run(asking, cwd="/", capture_output=True, text=True, check=True).stdout
    assert Path(printed.strip()).is_relative_to(moved.folder)


@pytest.mark.parametrize(
    ("python", "words"),
    [
        ("import sys; sys.version_info = (3, 9, 2)", "is Python 3.9: install Python 3.11, or name it"),
        ("import sys; sys.version_info = (3, 13, 0)", "is Python 3.13: install Python 3.11, or name it"),
        ("import sys; sys.modules['ensurepip'] = None", "has no venv or no ensurepip: install them"),
        (None, "isn't there: install Python 3.11, or name it"),
    ],
    ids=["too old", "too new", "without ensurepip", "missing"],
)
def test_python_that_does_not_do_is_named_in_one_line(tmp_path, python, words):
    checkout = Checkout(tmp_path / "a checkout", LocalIndex(tmp_path / "index"))
    program = tmp_path / "a python"
    if python is not None:
        program.write_text(f'#!/bin/sh\nexec "{PYTHON}" -c "{python}; exec(sys.argv[1])" "$2"\n')
        program.chmod(0o755)

    done = checkout.make(READY, f"PYTHON={program}")

    said, ended = done.stderr.splitlines()
    assert done.returncode == 2
    assert said.startswith(f"{program} {words}")
    assert ended.startswith("make: ***")
    assert not (checkout.folder / ".venv").exists()


def test_python_3_11_is_found_beside_another_python3(tmp_path):
    checkout = Checkout(tmp_path / "a checkout", LocalIndex(tmp_path / "index"))
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python3").write_text("#!/bin/sh\nexit 1\n")
    (programs / "python3").chmod(0o755)
    (programs / "python3.11").symlink_to(PYTHON)

    printed = subprocess.run(
        ["make", "--dry-run", READY],
        cwd=checkout.folder,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert '"python3.11" -m venv' in printed
