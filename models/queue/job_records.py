"""All that is recorded about a job, read by one statement: a page shows all of it at once."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

from models.connections import Connection
from models.history import actions, timeline
from models.history.actions import Action
from models.history.timeline import ProviderCall, RefusedEnd, StageRun, StoredObject, Types
from models.money import job_money
from models.money.job_money import MoneyMove
from models.queue import checkpoints
from models.queue.checkpoints import LeftOutput


@dataclass(frozen=True, slots=True)
class JobRecords:
    """What is recorded about a job, each in its own order."""

    runs: Sequence[StageRun]
    calls: Sequence[ProviderCall]
    money: Sequence[MoneyMove]
    actions: Sequence[Action]
    refused: Sequence[RefusedEnd]
    objects: Sequence[StoredObject]
    left: Sequence[LeftOutput]


_KINDS: Final[Mapping[str, type[Any]]] = {
    "runs": StageRun,
    "calls": ProviderCall,
    "money": MoneyMove,
    "actions": Action,
    "refused": RefusedEnd,
    "objects": StoredObject,
    "left": LeftOutput,
}
_JSON: Final = frozenset({"treatments", "measures", "after", "output"})
"""Columns of type jsonb; within a record the driver doesn't decode them. `treatments` of objects is an array."""


async def job_records(connection: Connection, job_id: str, types: Types) -> JobRecords:
    """Return what is recorded about a job.

    `types` are those of the jobs of its table; None if nothing tells the table of a job whose row is deleted.
    """
    texts = {
        "runs": timeline.RUNS,
        "calls": timeline.CALLS,
        "money": job_money.of_job(),
        "actions": actions.ABOUT_JOB,
        "refused": timeline.REFUSED,
        "objects": timeline.OBJECTS,
        "left": checkpoints.LEFT,
    }
    parts = [f"ARRAY(SELECT ROW({_columns(name)}) FROM ({text}) r) AS {name}" for name, text in texts.items()]
    row = await connection.fetchrow(f"SELECT {', '.join(parts)}", job_id, types, list(actions.OF_JOBS))
    assert row is not None  # noqa: S101 - a SELECT without FROM returns a row
    return JobRecords(**{name: [_record(name, one) for one in row[name]] for name in texts})


def _is_json(name: str, column: str) -> bool:
    return column in _JSON and name != "objects"


def _columns(name: str) -> str:
    return ", ".join(f"r.{one.name}" + ("::text" if _is_json(name, one.name) else "") for one in fields(_KINDS[name]))


def _record(name: str, values: Sequence[Any]) -> Any:
    kind = _KINDS[name]
    decoded = [
        json.loads(value) if value is not None and _is_json(name, one.name) else value
        for one, value in zip(fields(kind), values, strict=True)
    ]
    return kind(*decoded)
