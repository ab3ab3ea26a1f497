"""Periodic tasks as operators see them: schedules, last runs, and extra ticks."""

import difflib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from config.periodic_terms import KEPT_FOREVER
from models.connections import Connection
from models.database import Database
from models.history.actions import record_action
from models.periodic.needs import missing_columns, passed_over
from models.periodic.retention import ForbiddenPolicyError, require_allowed
from models.periodic.ticks import RecentTick, change_schedule, last_ticks, recent_ticks, schedule_states
from models.schema.server import server_time, server_time_in_milliseconds
from pipelines.settings import Settings
from workers.objects import orphans_mode
from workers.operations.errors import InvalidInputError, NotFoundError
from workers.periodic.engine import Clock, PeriodicEngine
from workers.periodic.registry import periodic_tasks
from workers.periodic.schedule import InvalidScheduleError
from workers.periodic.tasks.prune_records import policies
from workers.process.runtime import Runtime

NEAR: Final = 0.7
"""How similar (0 to 1) a name must be to a task's name for the message to suggest that task."""


def periodic_engine(runtime: Runtime, clock: Clock | None = None) -> PeriodicEngine:
    """Return the engine of all periodic tasks of a runtime.

    Raises:
        InvalidInputError: the settings have an invalid schedule or retention policy.
    """
    try:
        tasks = periodic_tasks(runtime.settings)
    except ValueError as error:
        raise InvalidInputError(str(error)) from error
    return PeriodicEngine(runtime.database, runtime.storage, runtime.settings, tasks, clock=clock)


async def require_allowed_policies(database: Database, settings: Settings) -> None:
    """Check that no retention policy of the settings can reach rows that are never deleted.

    Raises:
        InvalidInputError: the message names the policy's table, and how its rows are connected with such rows.
    """
    for name, policy in policies(settings).items():
        try:
            await database.run(
                lambda connection, policy=policy: require_allowed(connection, policy, KEPT_FOREVER)  # type: ignore[misc]  # mypy can't infer a default
            )
        except ForbiddenPolicyError as error:
            raise InvalidInputError(f"DARKROOM_RETENTION: {error}; leave {name} out") from error


TICKS_EACH: Final = 8
"""How many ticks of each task are listed."""


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """A schedule, and how its task last ran.

    Attributes:
        name: the task's name.
        schedule: such as `*/15 * * * *`.
        time_zone: the time zone of the schedule.
        missed: the rule for ticks that were missed while no scheduler ran.
        paused: whether an operator has paused it.
        last_run: when its last tick ended.
        next_run: when the next tick is due; None while the schedule is paused or can't be read.
        last_counts: what the last tick counted, by name.
        last_duration_s: how long the last tick took.
        last_error: what is wrong with the schedule or the tick, or which table or column that the task needs is
            missing.
    """

    name: str
    schedule: str
    time_zone: str
    missed: str
    paused: bool
    last_run: datetime | None
    next_run: datetime | None
    last_counts: Mapping[str, int] | None
    last_duration_s: float | None
    last_error: str | None


async def list_schedules(runtime: Runtime) -> list[ScheduleRow]:
    """Return every schedule, and how its task last ran."""
    engine = periodic_engine(runtime)
    names = list(engine.tasks)
    states = await runtime.database.run(lambda connection: schedule_states(connection, names))
    last = await runtime.database.run(lambda connection: last_ticks(connection, names))
    now = await runtime.database.run(server_time)
    needs = {name: task.needs for name, task in engine.tasks.items()}
    missing = await runtime.database.run(
        lambda connection: missing_columns(connection, itertools.chain.from_iterable(needs.values()))
    )
    rows = []
    for name in names:
        fault = None
        try:
            schedule = engine.schedule(name, states[name].changes)
            next_run = None if schedule.is_paused else schedule.after(max(now, states[name].planned_until or now))
        except InvalidScheduleError as error:
            schedule, next_run, fault = engine.tasks[name].schedule, None, str(error)
        rows.append(
            ScheduleRow(
                name=name,
                schedule=schedule.when,
                time_zone=schedule.time_zone,
                missed=schedule.missed,
                paused=schedule.is_paused,
                last_run=last[name].last_run,
                next_run=next_run,
                last_counts=last[name].last_counts,
                last_duration_s=last[name].last_duration_s,
                last_error=fault or last[name].last_error or passed_over(needs[name], missing),
            )
        )
    return rows


async def list_ticks(runtime: Runtime, *, each: int = TICKS_EACH) -> list[RecentTick]:
    """Return the last ticks of all tasks, at most `each` of one task, the newest first."""
    names = list(periodic_engine(runtime).tasks)
    return await runtime.database.run(lambda connection: recent_ticks(connection, names, each=each))


async def describe_orphans(runtime: Runtime) -> str:
    """Return words for what collect-orphans does on this database, and why."""
    mode = await runtime.database.run(lambda connection: orphans_mode(connection, runtime.settings))
    deed = "removes what an earlier run reported" if mode.removes else "only reports"
    return f"collect-orphans {deed}: {mode.reason}"


async def run_schedule(
    runtime: Runtime,
    name: str,
    *,
    at: datetime | None = None,
    is_dry: bool = False,
    actor: str,
    reason: str | None = None,
) -> dict[str, int]:
    """Insert an extra tick of a task and work on it to its end; return its counts.

    Args:
        runtime: an open runtime.
        name: name of the task.
        at: the tick's time, aware, which the task uses as the current time; None for the database's time.
        is_dry: only count what the tick would do.
        actor: the operator, for the record.
        reason: why, for the record.

    Raises:
        InvalidInputError: a retention policy reaches rows that are never deleted.
        NotFoundError: there is no such task.
    """
    engine = periodic_engine(runtime)
    _require(engine, name)
    await require_allowed_policies(runtime.database, runtime.settings)
    if at is None:
        at = await runtime.database.run(server_time_in_milliseconds)
    if is_dry:
        return await engine.count(name, at)
    counts = await engine.run_extra(name, at)
    await runtime.database.commit(
        "record_run",
        lambda connection: record_action(
            connection,
            actor=actor,
            action="schedule_run",
            target=name,
            after={"at": at.isoformat(), "counts": counts},
            reason=reason,
        ),
    )
    return counts


async def set_paused(
    runtime: Runtime, name: str, *, is_paused: bool, actor: str, reason: str | None = None
) -> ScheduleRow:
    """Pause a schedule or let it continue; return its row of `list_schedules`. Idempotent.

    Ticks that were due meanwhile are missed, and the task's rule for missed ticks applies.

    Raises:
        NotFoundError: there is no such task.
    """
    _require(periodic_engine(runtime), name)

    async def change(connection: Connection) -> None:
        async with connection.transaction():
            before = await change_schedule(connection, name, is_paused=is_paused)
            await record_action(
                connection,
                actor=actor,
                action="schedule_pause" if is_paused else "schedule_resume",
                target=name,
                before={"paused": before},
                after={"paused": is_paused},
                reason=reason,
            )

    await runtime.database.commit("change_schedule", change)
    return next(row for row in await list_schedules(runtime) if row.name == name)


def require_task(runtime: Runtime, name: str) -> None:
    """Check that there is a periodic task of this name.

    Raises:
        NotFoundError: there is none.
    """
    _require(periodic_engine(runtime), name)


def _require(engine: PeriodicEngine, name: str) -> None:
    if name not in engine.tasks:
        near = difflib.get_close_matches(name, engine.tasks, n=1, cutoff=NEAR)
        meant = f"did you mean {near[0]}? " if near else ""
        raise NotFoundError(f"there is no periodic task {name!r}; {meant}`darkroom schedule list` shows them all")
