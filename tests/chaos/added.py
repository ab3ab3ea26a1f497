"""Additional job tables of a run: a module says how an application uses them.

`python -m tests.chaos --tables tests.integration.third_table.orders`: the module's ADDED is an AddedTables.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

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
    """

    name: str
    id_column: str
    status_column: str
    states: Mapping[str, str]
    stages: Mapping[str, Sequence[str]]
    balances: str = ""


@dataclass(frozen=True, slots=True)
class AddedTables:
    """What a run does with tables of another application.

    Attributes:
        plugin: a module that tells processes of Darkroom about them before they start; empty where a release does.
        ddl: makes them, before `db upgrade`.
        tables: those that hold jobs.
        set_up: fills them, and stores what their jobs start from.
        programs: makes the programs that use them, by the run's own maker; the other tables have so many jobs a second.
        at_end: what their application does when its programs are over, so that no job waits for it.
    """

    plugin: str
    ddl: str
    tables: Sequence[AddedTable]
    set_up: Callable[[asyncpg.Connection, Storage], Awaitable[None]]
    programs: Callable[[Callable[..., Program], float], Sequence[Program]]
    at_end: str


def load(module: str) -> AddedTables | None:
    """Return what a module adds; None without a module."""
    return importlib.import_module(module).ADDED if module else None
