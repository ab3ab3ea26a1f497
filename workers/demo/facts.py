"""Results of the demo's jobs, and whether they are as expected."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from models.history.timeline import timed_runs
from models.money.job_money import money_of_jobs
from models.money.violations import list_violations
from pipelines.errors import StageError
from pipelines.settings import Settings
from workers.demo.jobs import DemoJob
from workers.operations.jobs import get_jobs
from workers.process.runtime import Runtime
from workers.submission import Picture

_MEANT_FOR: Final = {"gamma": "isDark", "castRed": "hasColorCast", "castBlue": "hasColorCast"}
"""Measured figures that mean something only if a defect was found, by name, with that defect."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One job of the demo as it was submitted."""

    demo_job: DemoJob
    job_id: str
    original: Picture
    second: Picture | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """One job of the demo, after its end.

    Attributes:
        entry: the job as it was submitted.
        job: its row.
        stage_ms: how long each stage took; a stage that failed is included.
        measures: what ANALYZING measured, by the engine's own names.
        treatments: what GENERATING did, in words.
        sha256: of the result, as GENERATING recorded it.
        charged: tokens.
        refunded: tokens.
        result: the object's bytes; None without one.
    """

    entry: Entry
    job: Mapping[str, Any]
    stage_ms: Mapping[str, int]
    measures: Mapping[str, float]
    treatments: tuple[str, ...]
    sha256: str | None
    charged: int
    refunded: int
    result: bytes | None

    @property
    def demo_job(self) -> DemoJob:
        """The entry of the demo's list from which the job was made."""
        return self.entry.demo_job

    @property
    def found(self) -> tuple[str, ...]:
        """The defects found, by their names in `analysisResult`; a colour cast with its hue."""
        defects = (self.job["analysisResult"] or {}).get("defects", {})
        names = [name for name, is_there in defects.items() if is_there is True]
        hue = defects.get("colorCastType")
        cropped = ["black bars"] if self.job["wasCropped"] else []
        return (*cropped, *(f"{name} ({hue})" if name == "hasColorCast" and hue else name for name in names))

    @property
    def measured(self) -> str:
        """What was measured, in one line, without the figures of defects that weren't found."""
        defects = (self.job["analysisResult"] or {}).get("defects", {})
        shown = {name: value for name, value in self.measures.items() if defects.get(_MEANT_FOR.get(name, ""), True)}
        return ", ".join(f"{_words(name)} {value:.3g}{_unit(name)}" for name, value in shown.items())

    @property
    def done(self) -> str:
        """What was done, in one line; for a job without success, the reason."""
        if self.job["status"] != "COMPLETED":
            return str(self.job["errorMessage"] or "nothing")
        crop = self.job["cropDimensions"]
        cropped = [f"cropped to {crop['w']} x {crop['h']}"] if self.job["wasCropped"] and crop else []
        return ", ".join([*cropped, *self.treatments]) or "resized"

    @property
    def sizes(self) -> str:
        """The picture's size before and after, in pixels."""
        before = f"{self.entry.original.width_px} x {self.entry.original.height_px}"
        if self.job["enhancedWidth"] is None:
            return before
        return f"{before} to {self.job['enhancedWidth']} x {self.job['enhancedHeight']}"

    @property
    def waited_s(self) -> float:
        """Seconds that the job waited for its first claim."""
        started, created = self.job["processingStartedAt"], self.job["createdAt"]
        return 0.0 if started is None else max(0.0, (started - created).total_seconds())

    @property
    def total_s(self) -> float:
        """Seconds from the job's creation to its end."""
        ended = self.job["processingCompletedAt"] or self.job["updatedAt"]
        return max(0.0, float((ended - self.job["createdAt"]).total_seconds()))


def _words(name: str) -> str:
    """Return a figure's name as words: `meanLuma` becomes `mean luma`."""
    return re.sub(r"(?<=[a-z])[A-Z]", lambda found: f" {found[0].lower()}", name.removesuffix("Px")).replace("_", " ")


def _unit(name: str) -> str:
    return " px" if name.endswith("Px") else ""


async def collect(runtime: Runtime, entries: Sequence[Entry]) -> list[Facts]:
    """Return the results of jobs, in their order; `problems` reports jobs whose row or object is missing."""
    ids = [entry.job_id for entry in entries]
    jobs = {job.id: job.columns for job in await get_jobs(runtime, ids)}
    runs = await runtime.database.run(lambda connection: timed_runs(connection, ids))
    money = await runtime.database.run(lambda connection: money_of_jobs(connection, ids))
    facts = []
    for entry in entries:
        if entry.job_id not in jobs:
            continue
        job = jobs[entry.job_id]
        own = [run for run in runs if run.job_id == entry.job_id]
        outputs = {run.stage: run.output or {} for run in own if run.event == "finished"}
        stage_ms: dict[str, int] = {}
        for run in own:
            stage_ms[run.stage] = stage_ms.get(run.stage, 0) + run.duration_ms
        generated = outputs.get("GENERATING", {})
        facts.append(
            Facts(
                entry=entry,
                job=job,
                stage_ms=stage_ms,
                measures=outputs.get("ANALYZING", {}).get("measures", {}),
                treatments=tuple(generated.get("treatments", ())),
                sha256=generated.get("sha256"),
                charged=money.get((entry.job_id, "charge"), 0),
                refunded=money.get((entry.job_id, "refund"), 0),
                result=await _result(runtime, job["enhancedR2Key"]),
            )
        )
    return facts


async def _result(runtime: Runtime, key: str | None) -> bytes | None:
    if key is None:
        return None
    try:
        return await runtime.storage.get(key)
    except StageError:
        return None


async def problems(runtime: Runtime, entries: Sequence[Entry], facts: Sequence[Facts]) -> list[str]:
    """Return every difference from the expected results, one line each."""
    known = {fact.entry.job_id for fact in facts}
    found = [f"{entry.demo_job.name}: job {entry.job_id} has no row" for entry in entries if entry.job_id not in known]
    for fact in facts:
        found += [
            f"{fact.demo_job.name}: job {fact.entry.job_id} {text}" for text in _problems_of(runtime.settings, fact)
        ]
    for one in await runtime.database.run(list_violations):
        whose = " ".join(
            f"{name} {value}" for name, value in (("job_id", one.job_id), ("user_id", one.user_id)) if value
        )
        found.append(f"promise {one.promise} is broken for {whose}: {one.finding}")
    return found


def _problems_of(settings: Settings, fact: Facts) -> list[str]:
    job, found = fact.job, []
    price = settings.prices[fact.demo_job.tier]
    if job["status"] != fact.demo_job.expected_status:
        reason = f" ({job['errorMessage']})" if job["errorMessage"] else ""
        found.append(f"is {job['status']}{reason}, expected {fact.demo_job.expected_status}")
    if fact.charged != price:
        found.append(f"was charged {fact.charged} tokens, expected {price}")
    refund = 0 if job["status"] == "COMPLETED" else price
    if fact.refunded != refund:
        found.append(f"was paid back {fact.refunded} tokens, expected {refund}")
    if job["status"] == "COMPLETED":
        found += _object_problems(fact)
    return found


def _object_problems(fact: Facts) -> list[str]:
    """Return the differences between a result and its row, its key and its history."""
    key, size_bytes = fact.job["enhancedR2Key"], fact.job["enhancedSizeBytes"]
    if fact.result is None:
        return [f"is COMPLETED, but object {key} can't be read"]
    found = []
    if len(fact.result) != size_bytes:
        found.append(f"has an object of {len(fact.result)} bytes, recorded {size_bytes}")
    sha256 = hashlib.sha256(fact.result).hexdigest()
    if sha256 != fact.sha256:
        found.append(f"has an object with sha256 {sha256}, recorded {fact.sha256}")
    if sha256[:16] not in os.path.basename(key):  # noqa: PTH119 - a key is no path
        found.append(f"has object {key}, whose name lacks its own hash {sha256[:16]}")
    return found
