"""The expressions of what is in `deploy`, and the metrics that they ask for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
INSIDE = ("expr", "lhs", "rhs", "param", "vector_selector")


def rules() -> list[dict[str, Any]]:
    """Return the alert rules."""
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the panels of the Grafana dashboard that show something."""
    board = json.loads((DEPLOY / "grafana/darkroom.json").read_text())
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return every expression, in the order of the files."""
    return [rule["expr"] for rule in rules()] + [target["expr"] for one in panels() for target in one["targets"]]


def selectors(node: Any) -> Iterator[Any]:
    """Yield the selectors in a parsed expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
        return
    inside = [getattr(node, name, None) for name in INSIDE] + list(getattr(node, "args", ()))
    for one in inside:
        if one is not None:
            yield from selectors(one)


def deployed_names() -> set[str]:
    """Return the names of all metrics that the dashboard or a rule asks for."""
    return {one.name for text in expressions() for one in selectors(promql_parser.parse(text))}
