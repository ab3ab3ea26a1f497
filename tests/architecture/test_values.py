"""A value is defined once: no two modules give the same name the same text, table or set."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("config", "models", "pipelines", "workers")


def modules() -> dict[str, ast.Module]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py") if "versions" not in path.parts]
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def constants(tree: ast.Module):
    """Yield name and value of each constant of a module."""
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if len(targets) == 1 and isinstance(targets[0], ast.Name) and value is not None and targets[0].id.isupper():
            yield targets[0].id, value


def is_written_out(value: ast.expr) -> bool:
    """Say whether a value stands here, and is more than a number, which may be the same by chance."""
    nodes = list(ast.walk(value))
    is_elsewhere = any(isinstance(node, ast.Call | ast.Name | ast.Attribute) for node in nodes)
    return not is_elsewhere and any(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in nodes)


def test_no_two_modules_give_a_name_the_same_value():
    places = defaultdict(list)
    for path, tree in modules().items():
        for name, value in constants(tree):
            if is_written_out(value):
                places[name.lstrip("_"), ast.unparse(value)].append(path)

    twice = {name: paths for (name, _), paths in places.items() if len(paths) > 1}

    assert twice == {}
