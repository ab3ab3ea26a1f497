"""A worker with an additional stage, whose output has no column; an entry point for dramatiq.

The next stage stores an object and kills its process when it begins for the first time, and records what it is given
when it begins again. The stage before has finished once something is stored.
"""

import hashlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pipelines.job_types import JOB_TYPES, JobType
from pipelines.stage import Stage
from pipelines.stage_context import StageContext
from tests.support import slow_worker


@dataclass(frozen=True, slots=True)
class Check:
    """What the stage found."""

    words: str

    def to_json(self) -> dict[str, Any]:
        return {"words": self.words}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(value["words"])


async def check(context: StageContext) -> Check:
    """Find the job sound, once."""
    _note("checked")
    return Check(f"{context.job.job_type} is sound")


CHECK = Stage("CHECKING", check, output=Check, deadline_s=30)


def dying_once(stage: Stage) -> Stage:
    """Return a stage that is killed once it has stored an object, at its first beginning in the life of a test."""

    async def run(context: StageContext) -> Any:
        if "killed" not in _notes():
            _note("killed")
            data = b"stored before its process is killed"
            await context.storage.put("killed", data, "text/plain", hashlib.sha256(data).hexdigest())
            os.kill(os.getpid(), signal.SIGKILL)
        found = context.output(Check)
        _note(f"given:{found.words.replace(' ', '_') if found else 'nothing'}")
        return await stage.run(context)

    return replace(stage, run=run)


def _notes() -> list[str]:
    return Path(os.environ["SLOW_CALLS"]).read_text().split()


def _note(what: str) -> None:
    with Path(os.environ["SLOW_CALLS"]).open("a") as notes:
        notes.write(f"{os.getpid()} {what}\n")


def with_check(job_type: JobType, place: int) -> JobType:
    """Return a job type whose stages have CHECK at a place, and behind it one that dies."""
    stages = job_type.stages
    return replace(job_type, stages=(*stages[:place], CHECK, dying_once(stages[place]), *stages[place + 1 :]))


def main() -> None:
    JOB_TYPES["generate"] = with_check(JOB_TYPES["generate"], 0)
    JOB_TYPES["enhance"] = with_check(JOB_TYPES["enhance"], 2)
    slow_worker.main()
