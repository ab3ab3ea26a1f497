"""Where tests stand: those of a package in the folder with its name, if they need no server."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SERVICES = {"services", "template", "database_url", "database", "redis_url"}
PROGRAMS = (
    "support",
    "chaos",
    "model",
    "contract/providers",
    "integration/third_table",
    "integration/several_pictures",
    "integration/box_actions",
)
"""Folders that hold more than tests."""


def without_servers() -> list[Path]:
    """Return the test files that `make check` runs."""
    named = re.findall(r"^WITHOUT_SERVERS := (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    places = [ROOT / name for line in named for name in line.split()]
    return [path for place in places for path in ([place] if place.suffix else place.rglob("*.py"))]


def functions(path: Path):
    return (
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def is_fixture(function) -> bool:
    return any(ast.unparse(one).startswith("pytest.fixture") for one in function.decorator_list)


def asked_for(function) -> set[str]:
    """Return the fixtures that a function asks for: what its parameters name has other values."""
    parameters = " ".join(ast.unparse(one) for one in function.decorator_list)
    return {argument.arg for argument in function.args.args} - set(re.findall(r"\w+", parameters))


def test_every_folder_of_unit_tests_is_a_package_of_the_source():
    folders = {path.parent.relative_to(TESTS / "unit") for path in (TESTS / "unit").rglob("test_*.py")}

    assert len(folders) > 10
    assert {str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()} == set()


def test_services_are_all_fixtures_of_the_whole():
    fixtures = {one.name for one in functions(TESTS / "conftest.py") if is_fixture(one)}

    assert fixtures - {"only_pictures"} == SERVICES


def test_what_make_check_runs_asks_for_no_service():
    files = without_servers()
    asking = {
        f"{path.relative_to(ROOT)}: {one.name}"
        for path in files
        for one in functions(path)
        if SERVICES & asked_for(one) and (is_fixture(one) or one.name.startswith("test_"))
    }

    assert len(files) > 60
    assert asking == set()


def test_what_is_no_test_stands_in_support():
    others = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("*.py")
        if not re.fullmatch(r"test_\w+|conftest|__init__", path.stem)
    ]

    assert [path for path in others if not path.startswith(PROGRAMS)] == []
    assert list((TESTS / "support").rglob("test_*.py")) == []


@pytest.mark.parametrize("folder", ["unit", "contract", "integration", "acceptance"])
def test_fixture_of_a_folder_has_its_name_for_itself(folder):
    """Below a conftest none has another of the same name but to replace it on purpose, as a template's."""
    conftests = [*(TESTS / folder).rglob("conftest.py"), TESTS / "conftest.py"]
    names = [one.name for path in conftests for one in functions(path) if is_fixture(one)]

    assert {name for name in names if names.count(name) > 1} <= {"template", "database_url"}
