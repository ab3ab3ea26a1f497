"""The two lock files name every package that is needed and no index; `make` installs exactly these packages."""

import ast
import re
import shlex
import sys
from fnmatch import fnmatch
from importlib.metadata import distribution, distributions, packages_distributions

import pytest
from packaging.utils import canonicalize_name

from pipelines.providers.local.networks import DENOISING, FAITHFUL, missing
from tests.support.locks.checkout import Checkout
from tests.support.locks.local_index import LocalIndex
from tests.support.locks.lock import (
    DEVELOPS,
    DEVELOPS_GROUPS,
    ROOT,
    RUNS,
    RUNS_GROUPS,
    entries,
    needed,
    roots,
    split,
    versions,
)

ENTRY = re.compile(r"[a-z0-9-]+==[a-z0-9.]+( ; [^\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n")
PACKAGES = ("config", "models", "pipelines", "workers")
LOCKS = {"runs": ((RUNS,), RUNS_GROUPS), "develops": ((RUNS, DEVELOPS), DEVELOPS_GROUPS)}
"""Set -> the files that hold it, and the dependency groups of pyproject.toml that ask for it."""


def locked(files: tuple[str, ...]) -> dict[str, str]:
    return {name: version for file in files for name, version in versions(ROOT / file).items()}


def imported_names() -> set[str]:
    trees = [ast.parse(path.read_text()) for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    return {name.split(".")[0] for name in plain | froms} - set(sys.stdlib_module_names) - set(PACKAGES)


def installing_commands(tmp_path) -> list[list[str]]:
    """Return the words of every `pip install` that set-up from nothing runs."""
    checkout = Checkout(tmp_path / "checkout", LocalIndex(tmp_path / "index"))
    printed = checkout.make("--dry-run", ".venv/.ready-dev", ".venv/.ready").stdout
    return [shlex.split(line.split("&&")[0]) for line in printed.splitlines() if "pip install" in line]


def test_this_environment_is_what_the_locks_say():
    expected = locked((RUNS, DEVELOPS))

    installed = {canonicalize_name(found.name): found.version for found in distributions()}

    assert {name: installed.get(name) for name in expected} == expected, "run make .venv/.ready-dev .venv/.ready"


@pytest.mark.parametrize("kind", LOCKS)
def test_lock_holds_what_is_needed_and_nothing_else(kind):
    files, groups = LOCKS[kind]
    found = {canonicalize_name(each.name): each for each in distributions()}

    assert needed(roots(*groups), found) == set(locked(files))


def test_no_package_stands_in_both_locks():
    runs, develops = ({entry.name for entry in entries((ROOT / file).read_text())} for file in (RUNS, DEVELOPS))

    assert runs & develops == set()


@pytest.mark.parametrize(
    "file", [RUNS, DEVELOPS, "requirements-bench.lock", "requirements-node.lock", "requirements-realesrgan.lock"]
)
def test_lock_holds_pinned_versions_with_hashes_and_no_address(file):
    text = (ROOT / file).read_text()

    assert ENTRY.sub("", text) == ""


def test_everything_that_darkroom_imports_is_in_the_lock_of_what_runs():
    providers = packages_distributions()
    imported = {name: {canonicalize_name(each) for each in providers.get(name, ())} for name in imported_names()}

    assert {name for name, provided in imported.items() if not provided & set(locked((RUNS,)))} == set()


@pytest.mark.skipif("ncnn" not in versions(ROOT / RUNS), reason="a platform for which there are no weights")
def test_set_up_keeps_of_a_wheel_what_the_networks_need(tmp_path):
    checkout = Checkout(tmp_path / "checkout", LocalIndex(tmp_path / "index"))
    (removed,) = (line for line in checkout.make("--dry-run", ".venv/.runs").stdout.splitlines() if "waifu2x" in line)

    folders = [word.split("site-packages/")[1] for word in removed.split()[2:]]

    kept = [f"{network.files}.bin" for network in (FAITHFUL, DENOISING)]
    assert not [name for name in kept for folder in folders if fnmatch(name, folder) or name.startswith(folder + "/")]
    assert [missing(network) for network in (FAITHFUL, DENOISING)] == [None, None]


def test_every_program_that_the_documents_name_is_in_the_lock_of_what_runs():
    documents = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        name for path in documents for name in re.findall(r"(?:\.venv/bin/|activate && )([\w.-]+)", path.read_text())
    }
    provided = {
        entry.name
        for package in [*locked((RUNS,)), "darkroom"]
        for entry in distribution(package).entry_points.select(group="console_scripts")
    }

    assert named - provided - {"python", "activate"} == set()


def test_locks_are_installed_with_nothing_resolved(tmp_path):
    commands = installing_commands(tmp_path)

    of_locks = {words[-1]: set(words) for words in commands if "--requirement" in words}
    assert set(of_locks) == {RUNS, DEVELOPS}
    assert all({"--no-deps", "--require-hashes", "--only-binary"} <= words for words in of_locks.values())


def test_darkroom_itself_is_built_with_the_locked_tools_and_without_an_index(tmp_path):
    (words,) = (words for words in installing_commands(tmp_path) if "--requirement" not in words)

    assert {"--no-index", "--no-deps", "--no-build-isolation"} <= set(words)


def test_split_keeps_every_version_of_a_package_and_the_wider_marker():
    hashed = " \\\n    --hash=sha256:0\n"
    everything = (
        f"a==1 ; os_name == 'nt'{hashed}a==2 ; os_name != 'nt'{hashed}b==1{hashed}c==1 ; os_name != 'x'{hashed}"
    )
    runs = f"a==2 ; os_name != 'nt'{hashed}c==1 ; os_name == 'nt'{hashed}"

    of_runs, of_develops = split(everything, runs)

    assert [str(entry.requirement.marker) for entry in entries(of_runs)] == [
        'os_name == "nt"',
        'os_name != "nt"',
        'os_name != "x"',
    ]
    assert of_develops == f"b==1{hashed}"
