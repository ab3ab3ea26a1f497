"""Additional job tables of a run: modules say how their applications use them.

`python -m tests.chaos --tables tests.integration.third_table.orders,tests.chaos.studio`: the ADDED of each module is an
AddedTables.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from pipelines.storage.storage import Storage
from tests.chaos.programs import Program


@dataclass(frozen=True, slots=True)
class AddedTable:
    """A job table in the words of its application; the audit believes these, and no description of Darkroom's.

    Attributes:
        name: with its schema.
        id_column: its primary key.
        status_column: where the label stands.
        states: what each of its labels is among our states.
        stages: of its jobs, in order, by job type.
        balances: SELECT of who pays (text) and what they have now; empty where nobody pays.
        pictures: SELECT of every picture of completed jobs: `id` of the job, `key`, `size_bytes` and `sha256`, or the
            beginning of it; empty where the view of all jobs says these.
    """

    name: str
    id_column: str
    status_column: str
    states: Mapping[str, str]
    stages: Mapping[str, Sequence[str]]
    balances: str = ""
    pictures: str = ""


@dataclass(frozen=True, slots=True)
class AddedTables:
    """What a run does with tables of another application.

    Attributes:
        applications: entries of DARKROOM_APPLICATION beside `pictures`.
        ddl: makes them, before `db upgrade`.
        tables: those that hold jobs.
        set_up: fills them, and stores what their jobs start from.
        programs: makes the programs that use them, by the run's own maker; the other tables have so many jobs a second.
        at_end: what their application does when its programs are over, so that no job waits for it.
        plugin: a module that tells processes of Darkroom about them before they start; empty where a release does.
        checks: what their audit asks besides, as `tests.chaos.auditor.CHECKS`.
    """

    applications: Sequence[str]
    ddl: str
    tables: Sequence[AddedTable]
    set_up: Callable[[asyncpg.Connection, Storage], Awaitable[None]]
    programs: Callable[[Callable[..., Program], float], Sequence[Program]]
    at_end: str
    plugin: str = ""
    checks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def load(modules: str) -> tuple[AddedTables, ...]:
    """Return what modules add, whose names are separated by commas."""
    return tuple(importlib.import_module(one).ADDED for one in modules.split(",") if one)
