"""Requests to the metrics and health of a process, and the values in what it answers."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.patience import HANGS_AFTER_S
from tests.support.program import Running

AT = re.compile(r"^metrics at (http://\S+)/metrics$", re.MULTILINE)
PARTS = ("_bucket", "_sum", "_count")


class Answer(NamedTuple):
    status: int
    text: str
    took_s: float


class Scrape:
    """The values of one scrape."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples = [sample for one in text_string_to_metric_families(text) for sample in one.samples]
        self.kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, flags=re.MULTILINE))

    @property
    def names(self) -> set[str]:
        """The names by which expressions may ask: of samples, and of those that a family will have."""
        parts = {name + part for name, kind in self.kinds.items() if kind == "histogram" for part in PARTS}
        return {name for name, kind in self.kinds.items() if kind != "histogram"} | parts

    def value(self, name: str, /, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels; 0 if there is none."""
        found = [one for one in self.samples if one.name == f"darkroom_{name}" and labels.items() <= one.labels.items()]
        return sum(one.value for one in found)

    def has(self, name: str) -> bool:
        """Say whether there is any sample of a name."""
        return any(one.name == f"darkroom_{name}" for one in self.samples)


class Site:
    """Where a process serves."""

    def __init__(self, base: str) -> None:
        self.base = base

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Return what a request is answered, whatever its status."""
        began_s = time.monotonic()
        answer = httpx.get(self.base + path, headers=dict(headers or {}), timeout=HANGS_AFTER_S, trust_env=False)
        return Answer(answer.status_code, answer.text, time.monotonic() - began_s)

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Return the status of /readyz, and the status of each check by name."""
        answer = self.get("/readyz")
        return answer.status, {one["name"]: one["status"] for one in json.loads(answer.text)["checks"]}

    def scrape(self) -> Scrape:
        """Return what /metrics says now."""
        answer = self.get("/metrics")
        assert answer.status == 200, answer
        return Scrape(answer.text)


def site_of(running: Running) -> Site:
    """Return where a command serves, once it has said so."""
    running.says("metrics at http://")
    found = AT.search(running.said)
    assert found is not None, running.said
    return Site(found.group(1))
