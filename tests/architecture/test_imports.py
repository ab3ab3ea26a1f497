"""No module of ours imports itself, directly or through others; imports inside functions count, too."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "models", "pipelines", "workers")


def modules_of(root: Path, packages) -> dict[str, str]:
    """Return each module's name and text."""
    paths = [path for package in packages for path in (root / package).rglob("*.py")]
    names = (".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in paths)
    return dict(zip(names, (path.read_text() for path in paths), strict=True))


def imports_of(name: str, text: str, modules) -> set[str]:
    """Return which of the modules one of them imports, anywhere in its text: under TYPE_CHECKING and late as well."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by a relative name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    # a package that is named on the way to one of its modules is imported with it, and holds no imports of its own
    return {one for one in found & modules.keys() if modules[one].count("import ")} - {name}


def circle_of(modules) -> list[str]:
    """Return the first circle, as the names on it; empty without one."""
    try:
        TopologicalSorter({name: imports_of(name, text, modules) for name, text in modules.items()}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_import_leads_back_to_its_module():
    assert circle_of(modules_of(ROOT, PACKAGES)) == []


@pytest.mark.parametrize(
    "back",
    [
        "import one",
        "from one import A",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from one import A",
        "def late():\n    from one import A",
    ],
    ids=["plain", "from", "annotation", "late"],
)
def test_circle_is_found_whatever_kind_of_import_closes_it(back):
    assert set(circle_of({"one": "import two", "two": "import three", "three": back})) == {"one", "two", "three"}


LATE = {
    "pipelines/storage/backends.py",
    "workers/cli/app.py",
    "workers/process/runtime.py",
}
"""Files in which a function imports: what takes long to import and most commands don't need. Five at most."""

BY_NAME = {
    "config/log.py": "what a line looks like is structlog's, and most commands write no line",
    "config/logger.py": "as above",
    "models/schema/migrations/session.py": "alembic applies revisions, and most databases have them all",
    "pipelines/imaging/child.py": "a pixel child is told by name what to run",
    "pipelines/providers/local/learned.py": "networks are optional",
    "pipelines/providers/local/networks.py": "importlib.metadata is slow to import, and few pictures ask for a network",
    "pipelines/pixel_functions.py": "pixel children call these functions, and workers only name them",
    "pipelines/providers/opening.py": "a provider is imported when it is opened",
    "pipelines/stage.py": "a stage is imported by the processes that run it",
    "workers/cli/lazy.py": "a command's module is imported when it is called",
}
"""Files that import a module by its name."""


def late_imports(text: str) -> list[int]:
    """Return the lines of the imports that stand inside functions."""
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = (node for function in functions for node in ast.walk(function))
    return sorted({node.lineno for node in inside if isinstance(node, ast.Import | ast.ImportFrom)})


def sources():
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        yield str(path.relative_to(ROOT)), path.read_text()


def test_imports_stand_at_the_top_but_for_those_with_a_reason():
    late = [(path, text.splitlines()[line - 1]) for path, text in sources() for line in late_imports(text)]

    assert {path for path, _ in late} == LATE
    assert len(late) <= 5
    assert [path for path, line in late if "# noqa: PLC0415 - " not in line] == []


def test_modules_are_imported_by_name_only_with_a_reason():
    ways = ("import_module(", "resolve_name(", "__import__(")

    assert {path for path, text in sources() if any(way in text for way in ways)} == set(BY_NAME)


def test_import_inside_a_function_is_found():
    text = (
        "import a\nif a:\n    import b\ndef f():\n    import c\nclass C:\n  async def g(self):\n    from d import e\n"
    )

    assert late_imports(text) == [5, 8]
