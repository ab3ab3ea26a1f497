"""What `deploy` ships: each expression is one, asks for metrics that exist, and by labels that these have."""

import re
import shutil
import subprocess

import promql_parser
import pytest

from tests.support.promql import DEPLOY, deployed_names, expressions, panels, rules, selectors
from workers.metrics.families import FAMILIES, PREFIX

PARTS = {"histogram": ("_bucket", "_sum", "_count")}
LABELS = {
    f"{PREFIX}{one.name}{part}": {*one.labels, "instance", "job", *(["le"] if part == "_bucket" else [])}
    for one in FAMILIES
    for part in PARTS.get(one.kind, ("",))
} | {"up": {"job", "instance"}}


@pytest.mark.parametrize("text", expressions())
def test_expression_is_parsed_and_asks_for_what_exists(text):
    parsed = promql_parser.parse(text)

    found = list(selectors(parsed))
    assert found
    for one in found:
        assert one.name in LABELS
        assert {matcher.name for matcher in one.matchers.matchers} <= LABELS[one.name]


def test_selectors_are_found_wherever_they_stand():
    text = "-max_over_time(a[1h:5m]) + on() (b offset 5m) / quantile(scalar(c), d) and rate(e[5m]) > bool 1"

    assert [one.name for one in selectors(promql_parser.parse(text))] == list("abdce")


def test_dashboard_shows_every_family():
    shown = {re.sub("_(bucket|sum|count)$", "", name) for name in deployed_names()}

    assert {PREFIX + one.name for one in FAMILIES} - shown == set()


def test_every_rule_says_how_bad_it_is_and_what_to_do():
    names = [rule["alert"] for rule in rules()]

    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "action"}


def test_every_heading_that_a_rule_names_is_one_of_the_operations():
    headings = set(re.findall("^## (.*)$", (DEPLOY.parent / "docs/operations.md").read_text(), flags=re.MULTILINE))
    named = [re.search("docs/operations.md, (.*)$", rule["annotations"]["action"]) for rule in rules()]

    assert {found.group(1) for found in named if found} - headings == set()


def test_panels_do_not_overlap():
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool isn't on the PATH")
@pytest.mark.parametrize("arguments", [("check", "rules", "alerts.yml"), ("test", "rules", "alerts_test.yml")])
def test_rules_pass_their_own_tests(arguments):
    ran = subprocess.run(
        ["promtool", *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
