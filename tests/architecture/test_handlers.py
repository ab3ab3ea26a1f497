"""Only four places catch every error, each with its reason; all others name the errors that they handle."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "models", "pipelines", "workers")
CATCH_ALL = {
    "pipelines/imaging/child.py": "the border of a process that has no log",
    "workers/cli/app.py": "the end of a command",
    "config/outcome.py": "a pass of a loop that a process repeats, and a write whose failure concerns other jobs",
    "workers/running/outcomes.py": "a job's run",
}
CARRIED_ON = {"pipelines/imaging/pixel_child.py"}
"""Where everything is caught and travels to whoever asked, in a future."""


def sources():
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield str(path.relative_to(ROOT)), path.read_text()


def names_of(node: ast.expr | None) -> set[str]:
    """Return the names in what a handler catches; a bare one catches BaseException."""
    return {"BaseException"} if node is None else {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def catching(text: str, name: str) -> list[tuple[int, bool]]:
    """Return the line of each place that catches an exception of this name, and whether it raises it again."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler) and name in names_of(node.type):
            last = node.body[-1]
            found.append((node.lineno, isinstance(last, ast.Raise) and last.exc is None))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
            found += [(node.lineno, False) for argument in node.args if name in names_of(argument)]
    return found


def test_what_catches_every_exception_stands_in_four_places_with_its_reason():
    places = [(path, line, text) for path, text in sources() for line, _ in catching(text, "Exception")]

    assert sorted(path for path, _, _ in places) == sorted(CATCH_ALL)
    for path, line, text in places:
        assert " - " in text.splitlines()[line - 1], f"{path}:{line} says no reason"


def test_what_catches_the_end_of_a_task_lets_it_go_on():
    swallowing = {path for path, text in sources() for _, raises in catching(text, "BaseException") if not raises}

    assert swallowing == CARRIED_ON


def test_handlers_are_found_in_every_form():
    text = "try:\n    x\nexcept (OSError, Exception):\n    pass\nwith contextlib.suppress(Exception):\n    x\n"
    text += "try:\n    x\nexcept:\n    raise\n"

    assert catching(text, "Exception") == [(3, False), (5, False)]
    assert catching(text, "BaseException") == [(9, True)]
