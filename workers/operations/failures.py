"""Failures of jobs by their reason, where ids and numbers in a reason don't make it another one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from models.history.failures import Failure
from pipelines.providers.registry import PROVIDERS

UNKNOWN: Final = "no reason recorded"

_TOKEN: Final = re.compile(r"[^\s,;:()\[\]{}'\"`<>=]+")
_URL: Final = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_NUMBER: Final = re.compile(r"[-+]?\d+(?:[.,_]\d+)*")
_GROUPED: Final = re.compile(r"(?<=\d),(?=\d{3}\b)")
"""Commas between a number's groups of three digits."""

_MEASURE: Final = re.compile(r"[-+]?\d+(?:\.\d+)?([A-Za-z%]{1,4})")
_MIXED: Final = re.compile(r"(?=[a-z]*\d)(?=\d*[a-z])[a-z\d]{6,}", re.IGNORECASE)
_STATUS: Final = re.compile(r"[1-5]\d\d")
_BEFORE_STATUSES: Final = frozenset({"http", "status", *PROVIDERS})


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Jobs that failed for the same reason.

    Attributes:
        reason: with N and ID in place of numbers and ids.
        jobs: how many there are.
        last: the newest of them.
    """

    reason: str
    jobs: int
    last: Failure

    @property
    def last_at(self) -> datetime:
        """When the newest of them failed."""
        return self.last.at


def by_reason(failures: Iterable[Failure]) -> list[FailureReason]:
    """Return failures, which are given the newest first, by reason, the most frequent first."""
    found: dict[str, list[Failure]] = {}
    for one in failures:
        found.setdefault(kind_of_reason(one.reason), []).append(one)
    reasons = [FailureReason(reason, len(some), some[0]) for reason, some in found.items()]
    return sorted(reasons, key=lambda one: -one.jobs)


def kind_of_reason(reason: str | None) -> str:
    """Return a reason without what differs between jobs: N stands for numbers, ID for ids, URL for URLs.

    The status of an HTTP answer stays, and so do names that contain single digits, such as those of models and tiers.
    """
    words = _GROUPED.sub("", " ".join((reason or "").split()))
    if not words:
        return UNKNOWN
    before = ""

    def replaced(found: re.Match[str]) -> str:
        nonlocal before
        token, previous, before = found[0], before, found[0].lower()
        if token == "URL":  # noqa: S105 - a word of the sentence
            return token
        if _NUMBER.fullmatch(token):
            return token if previous in _BEFORE_STATUSES and _STATUS.fullmatch(token) else "N"
        if measure := _MEASURE.fullmatch(token):
            return "N" + measure[1]
        if _is_id(token):
            return "ID"
        return re.sub(r"\d+" if token[0].isdigit() else r"\d{2,}", "N", token)

    return _TOKEN.sub(replaced, _URL.sub("URL", words))


def _is_id(token: str) -> bool:
    return any(_MIXED.fullmatch(part) for part in re.split(r"[-_./]", token))
