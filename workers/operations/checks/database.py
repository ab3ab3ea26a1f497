"""Checks of the database: server, clock, migrations, mode of money, workers, budgets and recorded terms."""

from datetime import UTC, datetime
from typing import Final, Literal

from config.queue_terms import worker_for
from models.database import Database
from models.gate.costs import nearly_spent_budgets
from models.queue.queues import unserved_queues
from models.queue.rescue import overdue_jobs
from models.queue.stats import capacity
from models.schema.migrate import check, recorded
from models.schema.server import oldest_snapshot, server_time, server_version
from models.schema.settings import recorded_setting
from pipelines.settings import Settings
from workers.gate.rules import stops_of
from workers.operations.checks.check import Check
from workers.operations.spans import span
from workers.process.compose import migration_engine
from workers.services.services import Services

SKEW_WARN_S: Final = 2.0
"""Seconds of clock skew that are reported. No decision uses a worker's clock, but logs and presigned URLs do."""


async def check_overdue(database: Database, settings: Settings) -> Check:
    """Check for jobs that are older than the maximum wait."""
    late = await overdue_jobs(database, settings.max_wait_s + 60, stops_of(settings))
    if not late:
        return Check("overdue jobs", "ok", "no job is older than the maximum wait")
    message = f"{len(late):,} jobs are older than DARKROOM_MAX_WAIT_S, one is job {late[0]}"
    return Check("overdue jobs", "warn", message, "start `darkroom scheduler`, which ends and refunds them")


async def check_budgets(database: Database, settings: Settings) -> Check:
    """Check the budgets of all users together; budgets of single users aren't checked."""
    near = await database.run(
        lambda connection: nearly_spent_budgets(connection, settings.budgets, settings.budget_warning_fraction)
    )
    if not near:
        return Check("budgets", "ok", "none is nearly spent" if settings.budgets else "none is set")
    message = "; ".join(f"{one.spent} of the {one.label} {'is spent' if one.is_spent else ''}" for one in near)
    advice = "see `darkroom costs --by user`; raise DARKROOM_BUDGETS, or wait for the next day"
    return Check("budgets", "warn", message.strip(), advice)


async def check_terms(database: Database, settings: Settings) -> Check:
    """Check that the terms of regeneration that `darkroom.regenerate` uses are those of the environment."""
    recorded_terms = await database.run(lambda connection: recorded_setting(connection, "regeneration"))
    if recorded_terms == settings.regeneration_terms():
        return Check("regeneration", "ok", f"{settings.regeneration}, as recorded")
    found = "no terms are recorded" if recorded_terms is None else "the terms recorded are not the environment's"
    return Check("regeneration", "warn", found, "run `darkroom db upgrade` with this environment to record them")


SNAPSHOT_WARN_S: Final = 300.0
"""Age in seconds of a snapshot that is reported.

Darkroom's statements are shorter; reports and dumps may take longer.
"""


async def check_snapshots(database: Database) -> Check:
    """Check the oldest snapshot: while it lasts, PostgreSQL can't remove dead row versions, and gets slower."""
    oldest = await database.run(oldest_snapshot)
    unseen = f"; {oldest.unseen} sessions of other roles can't be seen" if oldest.unseen else ""
    if oldest.age_s is None or oldest.age_s < SNAPSHOT_WARN_S:
        advice = "grant pg_read_all_stats to Darkroom's role to see them" if unseen else ""
        return Check("old snapshots", "ok", f"none is older than {SNAPSHOT_WARN_S / 60:g} min{unseen}", advice)
    named = ", ".join(filter(None, (oldest.program, f"role {oldest.role}")))
    at = oldest.query_start
    began = "" if at is None else f", its query began at {at:%Y-%m-%d %H:%M:%S} UTC"
    message = f"{oldest.holder} ({named}) has held a snapshot for {span(oldest.age_s)}{began}{unseen}"
    advice = (
        "while it lasts dead row versions stay and all gets slower: end its transaction, with pg_terminate_backend "
        "if need be, and set idle_in_transaction_session_timeout for its role"
    )
    return Check("old snapshots", "warn", message, advice)


async def check_server(database: Database) -> Check:
    """Return which PostgreSQL answers, with its version."""
    return Check("postgresql", "ok", f"PostgreSQL {await database.run(server_version)} answers")


async def check_clock(database: Database) -> Check:
    """Compare this machine's clock with the database's."""
    before = datetime.now(UTC)
    theirs = await database.run(server_time)
    after = datetime.now(UTC)
    skew_s = (theirs - (before + (after - before) / 2)).total_seconds()
    if abs(skew_s) < SKEW_WARN_S:
        return Check("clock", "ok", f"within {max(0.1, abs(skew_s)):.1f} s of the database's")
    side = "behind" if skew_s > 0 else "ahead of"
    return Check("clock", "warn", f"{abs(skew_s):.1f} s {side} the database's", "start NTP here, or there")


_GROUPS: Final = {
    "trigger_missing": "triggers",
    "trigger_differs": "triggers",
    "trigger_off": "triggers",
    "object_missing": "objects",
    "object_differs": "objects",
    "left_over": "objects",
    "grant_lost": "objects",
    "sequence_behind": "sequences",
    "rows_hidden": "rows",
    "rows_refused": "tables",
    "unusable": "tables",
}
"""The check under which each kind of problem is reported; other kinds are reported under migrations."""

MOST_NAMED: Final = 5
"""How many problems a check lists; it gives the number of the others, and `db check` lists all."""

_ENDS_THE_LOOK: Final = frozenset({"unreachable", "not_installed", "behind", "not_recorded", "rows_hidden"})
"""Kinds of problems after which nothing else was compared."""

_ADVICE: Final = {"rows": "open the tables to the role, as it says", "tables": "change the tables, as it says"}


async def check_migrations(services: Services) -> list[Check]:
    """Compare revisions, objects and triggers with what this version makes."""
    engine = migration_engine(services)
    try:
        problems = await check(engine)
    finally:
        await engine.dispose()
    if problems and problems[0].kind == "rights_missing":
        return [Check("rights", "fail", problems[0].message, "grant the role of DATABASE_URL what it lacks")]
    groups: dict[str, list[str]] = {name: [] for name in ("migrations", *_GROUPS.values())}
    is_fatal = False
    for problem in problems:
        groups[_GROUPS.get(problem.kind, "migrations")].append(problem.message)
        is_fatal = is_fatal or problem.kind in _ENDS_THE_LOOK
    checks = []
    for name, good in (
        ("migrations", "the schema is this version's"),
        ("objects", "functions, views, tables and grants are as this version makes them"),
        ("triggers", "all there and enabled"),
        ("sequences", "each is past its table"),
        ("rows", "row-level security hides none"),
        ("tables", "they take every row of ours"),
    ):
        if not groups[name]:
            if not is_fatal:  # otherwise triggers and objects weren't compared
                checks.append(Check(name, "ok", good))
            continue
        status: Literal["warn", "fail"] = "fail" if is_fatal or name != "migrations" else "warn"
        advice = _ADVICE.get(name, "run `darkroom db upgrade`")
        more = [f"and {len(groups[name]) - MOST_NAMED} more"] if len(groups[name]) > MOST_NAMED else []
        checks.append(Check(name, status, "; ".join(groups[name][:MOST_NAMED] + more), advice))
    return checks


async def check_mode(settings: Settings, services: Services) -> Check:
    """Compare the recorded mode of money and prices with the environment's."""
    engine = migration_engine(services)
    try:
        installed = await recorded(engine)
    finally:
        await engine.dispose()
    if installed is None:
        return Check("money mode", "fail", "none is recorded", "run `darkroom db upgrade`")
    if settings.tokens is not None and settings.tokens != installed.mode:
        message = f"TOKENS={settings.tokens}, but the database is in mode {installed.mode}"
        return Check("money mode", "fail", message, "unset TOKENS, or run `darkroom db upgrade` with the queue empty")
    if dict(installed.prices) != dict(settings.prices):
        message = f"{installed.mode}; the prices recorded are not those of DARKROOM_PRICES"
        return Check("money mode", "warn", message, "run `darkroom db upgrade` to record them")
    return Check("money mode", "ok", installed.mode)


async def check_workers(database: Database) -> Check:
    """Count live workers and their lanes, and name the queues from which none of them takes jobs."""
    live = await database.run(capacity)
    unserved = await database.run(unserved_queues)
    found = f"{live.workers} live, {live.lanes} lanes" if live.workers else "none is running"
    if not unserved:
        return Check("workers", "ok", found)
    named = [one for one in unserved if one.waiting or live.workers]
    told = [f"none takes from queue {one.queue} ({one.waiting:,} waiting)" for one in named]
    advice = "; ".join(f"start `{worker_for(one.queue)}`" for one in unserved)
    if not live.workers:
        advice += ", or `darkroom up` for everything"
    status: Literal["warn", "fail"] = "fail" if any(one.waiting for one in unserved) else "warn"
    return Check("workers", status, "; ".join([found, *told]), advice)
