"""docs/metrics.md lists the metrics as they are, and the alerts that are shipped."""

import re

from tests.support.promql import DEPLOY, rules
from workers.metrics.families import FAMILIES, PREFIX

PAGE = (DEPLOY.parent / "docs/metrics.md").read_text()
SECTIONS = {"worker": "a worker", "scheduler": "a scheduler", "dashboard": "a dashboard", "all": "every process"}


def rows_of(source):
    """Return name, kind, labels and meaning of each row below a source's heading."""
    section = re.search(rf"^## From {SECTIONS[source]}$(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section[1].splitlines() if "| `" in line]
    return [
        (name.strip("`"), kind, tuple(re.findall("`([^`]+)`", labels)), meaning)
        for name, kind, labels, meaning, _ in cells
    ]


def test_page_lists_every_family_with_its_kind_labels_and_meaning():
    assert {source: rows_of(source) for source in SECTIONS} == {
        source: [(PREFIX + one.name, one.kind, one.labels, one.meaning) for one in FAMILIES if one.source == source]
        for source in SECTIONS
    }


def test_page_names_alerts_that_exist_and_each_that_asks_for_a_metric():
    shipped = {rule["alert"] for rule in rules()}

    assert set(re.findall("`(Darkroom[A-Z][A-Za-z]+)`", PAGE)) == shipped - {"DarkroomScrapeDown"}
