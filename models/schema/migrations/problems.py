"""Problems of an installation: what differs between the database and what this release makes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, text

from models.applications import registry
from models.schema.migrations import grants, installation, repeatable, tables, triggers
from models.schema.migrations.adoption import row_faults, usability_faults
from models.schema.migrations.applications import faults, use_recorded_applications
from models.schema.migrations.errors import NewerDatabaseError
from models.schema.migrations.rights import missing_rights, rights_message
from models.schema.migrations.sequences import sequences_behind
from models.schema.migrations.session import stamped_revisions
from models.schema.migrations.visibility import hidden_tables
from models.schema.readiness import REVISIONS

UPGRADE: Final = "run darkroom db upgrade"

_QUEUE_TRIGGERS: Final = text("""
    SELECT n.name, t.tgenabled IN ('O', 'A') AS is_on
    FROM (VALUES ('ask_for_slot'), ('free_slot'), ('free_slots')) n (name)
    LEFT JOIN pg_trigger t ON t.tgrelid = to_regclass('darkroom.job_queue') AND t.tgname = n.name ORDER BY n.name
""")
"""The triggers on our own table that `darkroom.make_queue_triggers` makes."""

NO_REASON_TO_WAIT: Final = frozenset({"ahead", "object_differs", "left_over", "grant_lost", "file_differs"})
"""Kinds of problems with which a process can work.

Revisions expand before they contract, and a function that another release made keeps its name, arguments and result for
one release.
"""


@dataclass(frozen=True, slots=True)
class Problem:
    """A difference that keeps a process from working on this database, or that an operator should know of."""

    kind: Literal[
        "unreachable",
        "rights_missing",
        "not_installed",
        "behind",
        "ahead",
        "not_recorded",
        "object_missing",
        "object_differs",
        "left_over",
        "grant_lost",
        "trigger_missing",
        "trigger_differs",
        "trigger_off",
        "sequence_behind",
        "rows_hidden",
        "rows_refused",
        "unusable",
        "file_differs",
    ]
    message: str

    @property
    def is_reason_to_wait(self) -> bool:
        """Whether a process can't work before this is repaired."""
        return self.kind not in NO_REASON_TO_WAIT


def require_known_revisions(connection: Connection) -> None:
    """Refuse a database that a newer Darkroom has migrated, because this release doesn't know what it contains.

    Raises:
        NewerDatabaseError: the version table holds a revision that this release doesn't know.
    """
    ahead = [problem.message for problem in _revision_problems(connection) if problem.kind == "ahead"]
    if ahead:
        raise NewerDatabaseError(ahead[0])


def problems(connection: Connection) -> Iterator[Problem]:
    """Yield the problems of an installation. If the role lacks rights, only that problem."""
    use_recorded_applications(connection)
    missing = missing_rights(connection)
    if missing:
        yield Problem("rights_missing", rights_message(connection, missing))
        return
    if hidden := list(hidden_tables(connection)):
        yield from (Problem("rows_hidden", one.message) for one in hidden)
        return  # without these rights nothing else can be compared
    revisions = list(_revision_problems(connection))
    yield from revisions
    if any(problem.kind in {"not_installed", "behind"} for problem in revisions):
        return  # an upgrade creates everything that is compared below
    is_ahead = any(problem.kind == "ahead" for problem in revisions)
    if not is_ahead:
        yield from (_missing(part.label) for part in tables.missing(connection))
        for one in tables.retyped(connection):
            yield Problem("object_differs", f"{one.label} is {one.found}, not {one.type}: {UPGRADE}")
    state = installation.recorded(connection)
    if state is None:
        yield Problem("not_recorded", f"mode, prices or cost column aren't recorded: {UPGRADE}")
        return
    if not is_ahead:  # what a newer release made can't be compared with what this one makes
        yield from _object_problems(connection, state.cost_column)
        yield from _queue_trigger_problems(connection)
    unusable = [] if is_ahead else list(_unusable(connection, state.cost_column))
    yield from (Problem("unusable", one) for one in unusable)
    yield from _trigger_problems(connection, state.cost_column, is_ahead=is_ahead)
    yield from _sequence_problems(connection)
    if not unusable and registry.has_pictures():
        yield from (Problem("rows_refused", one) for one in row_faults(connection, state.cost_column, state.mode))


def _unusable(connection: Connection, cost_column: str) -> Iterator[str]:
    if registry.has_pictures():
        yield from usability_faults(connection, cost_column)
    for one in registry.applications():
        yield from faults(connection, one)


def _revision_problems(connection: Connection) -> Iterator[Problem]:
    stamped = stamped_revisions(connection)
    for revision in sorted(stamped - {one for revisions in REVISIONS.values() for one in revisions}):
        yield Problem("ahead", f"revision {revision} is unknown here: a newer Darkroom migrated this database")
    for branch, revisions in REVISIONS.items():
        at = [revision for revision in revisions if revision in stamped]
        if at and at[-1] != revisions[-1]:
            yield Problem("behind", f"branch {branch} is at {at[-1]}, not at {revisions[-1]}: {UPGRADE}")
    if not stamped:
        yield Problem("not_installed", f"this database has no Darkroom schema: {UPGRADE}")


def _missing(label: str) -> Problem:
    return Problem("object_missing", f"{label} is missing: {UPGRADE}")


def _object_problems(connection: Connection, cost_column: str) -> Iterator[Problem]:
    missing, different = repeatable.differences(connection, cost_column)
    yield from (_missing(label) for label in missing)
    for label in different:
        yield Problem("object_differs", f"{label} isn't as this release makes it: {UPGRADE}")
    for label in repeatable.obsolete(connection, cost_column):
        yield Problem(
            "left_over",
            f"{label} served workers of an earlier release, none of them lives, and it can be in the way of the "
            f"application's migrations: {UPGRADE}",
        )
    yield from (Problem("grant_lost", one) for one in grants.lost(connection))


def _trigger_problems(connection: Connection, cost_column: str, *, is_ahead: bool) -> Iterator[Problem]:
    is_on = {name: on for name, _, on in connection.execute(installation.TRIGGERS)}
    names = installation.value_of(connection, "triggers") or {}
    for name in names if is_ahead else triggers.wanted(cost_column):
        if name not in is_on:
            yield Problem("trigger_missing", f"trigger {name} is gone: {UPGRADE}")
        elif not is_on[name]:
            yield Problem("trigger_off", f"trigger {name} is disabled: jobs pass it by until it is enabled again")
    if is_ahead:
        return
    for one in triggers.due(connection, cost_column):
        if one.label in is_on:
            yield Problem("trigger_differs", f"trigger {one.label} isn't as this release makes it: {UPGRADE}")
    for label in triggers.not_wanted(connection, cost_column):
        yield Problem("trigger_differs", f"trigger {label} is of an earlier release: {UPGRADE}")


def _queue_trigger_problems(connection: Connection) -> Iterator[Problem]:
    for name, on in connection.execute(_QUEUE_TRIGGERS):
        if on is None:
            yield Problem("trigger_missing", f"trigger job_queue.{name} is gone: {UPGRADE}")
        elif not on:
            yield Problem("trigger_off", f"trigger job_queue.{name} is disabled, so caps may not hold: {UPGRADE}")


def _sequence_problems(connection: Connection) -> Iterator[Problem]:
    for one in sequences_behind(connection):
        yield Problem(
            "sequence_behind",
            f"sequence {one.sequence} would give {one.next_value} next, and {one.column} holds {one.highest} already: "
            f"{UPGRADE}",
        )
