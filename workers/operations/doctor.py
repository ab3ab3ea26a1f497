"""Is everything well? Each check says ok, warn or fail, and what to do."""

import asyncio
import hashlib
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

import asyncpg

from config.embedded.services import Services
from config.postgres_url import parse_postgres_url
from config.settings import Settings
from models.database import Database, is_connection_loss
from models.migrate import check, recorded
from models.rescue import overdue_jobs
from pipelines.errors import ProviderNotConfiguredError, StageError
from pipelines.imaging.header import DecodeLimits
from pipelines.imaging.pool import PixelPool
from pipelines.providers.provider import Provider
from pipelines.providers.registry import open_providers
from pipelines.storage.backends import open_storage
from workers import doorbell
from workers.provider_rules import stops_of
from workers.runtime import migration_engine

SKEW_WARN_S: Final = 2.0
"""A worker's own clock decides nothing, but logs and presigned URLs go by it."""

BROKER_TIMEOUT_S: Final = 10.0
PROVIDER_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `advice` is empty where there is nothing to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    message: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class _RowCheck:
    """A query that counts what is wrong, and gives one example: (count, example)."""

    name: str
    sql: str
    none: str
    found: str
    advice: str
    status: Literal["warn", "fail"] = "warn"


_ROW_CHECKS = (
    _RowCheck(
        "leases",
        """SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
           WHERE q.status = 'processing' AND NOT EXISTS (
               SELECT FROM darkroom.workers w
               WHERE w.id = q.worker_id AND w.lease_expires_at > now() - interval '10 seconds')""",
        "every claim belongs to a live worker",
        "{count} claims of dead workers wait for rescue, one is job {example}",
        "start `darkroom worker` or `darkroom scheduler`: either rescues them",
    ),
    _RowCheck(
        "stuck jobs",
        """SELECT count(*), min(q.job_id) FROM darkroom.job_queue q
           WHERE q.status = 'processing' AND q.deadline_at < now() - interval '60 seconds'""",
        "no stage is past its deadline",
        "{count} jobs are past their stage's deadline, one is job {example}",
        "start `darkroom scheduler`, which rescues them; `darkroom jobs explain` says where they are",
    ),
    _RowCheck(
        "quarantined jobs",
        """SELECT count(*), max(r.job_id) FROM darkroom.stage_runs r
           WHERE r.event = 'failed' AND r.error LIKE 'quarantined:%' AND r.at > now() - interval '7 days'""",
        "none in the last 7 days",
        "{count} jobs killed their workers in the last 7 days and were ended, refunded, one is job {example}",
        "`darkroom jobs explain` one; when the cause is mended, `darkroom jobs retry --error quarantined --since 7d`",
    ),
    _RowCheck(
        "jobs outside the queue",
        """SELECT count(*), min(j.id) FROM darkroom.jobs j
           WHERE j.status = 'PENDING' AND j."createdAt" < darkroom.utc_now() - interval '1 minute'
             AND NOT EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = j.id AND q.job_type = j.type)""",
        "every PENDING job is in the queue",
        "{count} PENDING jobs have no queue row, one is job {example}",
        "start `darkroom scheduler`, which adopts them",
    ),
    _RowCheck(
        "provider calls",
        """SELECT count(*), min(c.job_id) FROM darkroom.provider_calls c
           WHERE c.outcome = 'open' AND c.started_at < now() - interval '15 minutes'""",
        "no intent is left open",
        "{count} provider calls were begun and never closed, one for job {example}",
        "a worker died in them; they may have been paid: compare with the provider's bill",
    ),
    _RowCheck(
        "pauses",
        """SELECT count(*), min(p.name || coalesce(' by ' || p.actor, '') || coalesce(': ' || p.reason, ''))
           FROM darkroom.pauses p WHERE p.resumed_at IS NULL""",
        "nothing is paused",
        "{count} by operators, one is {example}",
        "`darkroom queue stats` lists them, `darkroom queue resume` ends them (`darkroom costs --resume` for buying)",
    ),
    _RowCheck(
        "breakers",
        """SELECT count(*), min(l.name || coalesce(': ' || (l.state ->> 'open_reason'), '')) FROM darkroom.limits l
           WHERE l.scope = 'provider' AND greatest((l.state ->> 'open_until')::timestamptz,
                                                   (l.state ->> 'paused_until')::timestamptz) > now()""",
        "every provider takes calls",
        "{count} providers are left alone for now, one is {example}",
        "they are tried again by themselves; if it lasts, check key, billing and the provider's status",
    ),
    _RowCheck(
        "periodic tasks",
        """SELECT count(*), min(t.task || ': ' || coalesce(t.error, 'no reason recorded')) FROM darkroom.ticks t
           WHERE t.status = 'failed' AND t.finished_at > now() - interval '1 day'""",
        "no tick failed in the last day",
        "{count} ticks failed for good in the last day, one of {example}",
        "`darkroom schedule list` shows them; mend the cause, then `darkroom schedule run NAME`",
    ),
    _RowCheck(
        "money",
        "SELECT count(*), min(v.promise || ': ' || v.finding) FROM darkroom.money_violations v",
        "balances and ledger agree, every refund has its charge",
        "{count} breaches of the money promises, one is {example}",
        "`darkroom tokens audit` names them all, and `--repair` sets right what costs nobody a token",
        "fail",
    ),
)


async def examine(settings: Settings, services: Services) -> list[Check]:
    """Look at everything, whatever is broken; never raises for what it finds."""
    checks = [
        *await _providers(settings),
        _fetcher(settings),
        await _broker(services),
        await _storage(settings, services),
    ]
    database = Database(
        parse_postgres_url(services.database_url, direct_url=settings.database_direct_url), most_connections=1
    )
    try:
        await database.open()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        place = parse_postgres_url(services.database_url).text(with_password=False)
        return [
            Check("postgresql", "fail", f"{place} doesn't answer: {error}", "check DATABASE_URL and the server"),
            *checks,
        ]
    try:
        postgres = [await _server(database), await _clock(database)]
        migrations = await _migrations(services)
        checks = [*postgres, *checks, *migrations]
        if migrations[0].status == "fail":
            return checks  # our tables may not be there
        checks += [await _mode(settings, services), await _workers(database)]
        checks += [await _rows(database, row_check) for row_check in _ROW_CHECKS]
        checks += [await _overdue(database, settings), await _budgets(database, settings)]
        checks.append(await _terms(database, settings))
        return checks
    finally:
        await database.close()


def plan(checks: Sequence[Check]) -> list[str]:
    """Say what to do, in order: what fails comes first, and services before what rests on them. Each thing once."""
    wanted = [one for status in ("fail", "warn") for one in checks if one.status == status and one.advice]
    return list(dict.fromkeys(f"{one.name}: {one.advice}" for one in wanted))


async def _rows(database: Database, row_check: _RowCheck) -> Check:
    try:
        row = await database.fetchrow(row_check.sql)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        advice = "PostgreSQL went away: try again" if is_connection_loss(error) else "see the PostgreSQL log"
        return Check(row_check.name, "fail", f"couldn't be looked at: {error}", advice)
    count, example = (0, None) if row is None else (row[0], row[1])
    if not count:
        return Check(row_check.name, "ok", row_check.none)
    message = row_check.found.format(count=f"{count:,}", example=example)
    return Check(row_check.name, row_check.status, message, row_check.advice)


async def _overdue(database: Database, settings: Settings) -> Check:
    late = [row["job_id"] async for row in overdue_jobs(database, settings.max_wait_s + 60, stops_of(settings))]
    if not late:
        return Check("overdue jobs", "ok", "no job is older than the maximum wait")
    message = f"{len(late):,} jobs are older than DARKROOM_MAX_WAIT_S, one is job {late[0]}"
    return Check("overdue jobs", "warn", message, "start `darkroom scheduler`, which ends and refunds them")


_BUDGETS: Final = """
SELECT b.label, trim_scale(round(b.spent, 2)) AS spent, b.spent >= b.most AS is_spent
FROM darkroom.budget_lines('', $1, now()) b WHERE b.spent >= b.most * $2::float8::numeric ORDER BY b.is_day
"""


async def _budgets(database: Database, settings: Settings) -> Check:
    """Look at the budgets of all users together; a single user's are theirs."""
    rows = await database.fetch(_BUDGETS, dict(settings.budgets), settings.budget_warning_fraction)
    if not rows:
        return Check("budgets", "ok", "none is nearly spent" if settings.budgets else "none is set")
    message = "; ".join(f"{row['spent']} of the {row['label']} {'is spent' if row['is_spent'] else ''}" for row in rows)
    advice = "see `darkroom costs --by user`; raise DARKROOM_BUDGETS, or wait for the next day"
    return Check("budgets", "warn", message.strip(), advice)


async def _terms(database: Database, settings: Settings) -> Check:
    """`darkroom.regenerate` gives by the terms that are recorded, the scheduler by those of the environment."""
    recorded_terms = await database.fetchval("SELECT darkroom.setting('regeneration')")
    if recorded_terms == settings.regeneration_terms():
        return Check("regeneration", "ok", f"{settings.regeneration}, as recorded")
    found = "no terms are recorded" if recorded_terms is None else "the terms recorded are not the environment's"
    return Check("regeneration", "warn", found, "run `darkroom db upgrade` with this environment to record them")


async def _server(database: Database) -> Check:
    version = await database.fetchval("SHOW server_version")
    return Check("postgresql", "ok", f"PostgreSQL {str(version).split()[0]} answers")


async def _clock(database: Database) -> Check:
    before = datetime.now(UTC)
    theirs: datetime = await database.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    skew_s = (theirs - (before + (after - before) / 2)).total_seconds()
    if abs(skew_s) < SKEW_WARN_S:
        return Check("clock", "ok", f"within {max(0.1, abs(skew_s)):.1f} s of the database's")
    side = "behind" if skew_s > 0 else "ahead of"
    return Check("clock", "warn", f"{abs(skew_s):.1f} s {side} the database's", "start NTP here, or there")


async def _migrations(services: Services) -> list[Check]:
    engine = migration_engine(services)
    try:
        problems = await check(engine)
    finally:
        await engine.dispose()
    groups: dict[str, list[str]] = {"migrations": [], "triggers": []}
    is_fatal = False
    for problem in problems:
        groups["triggers" if problem.kind.startswith("trigger") else "migrations"].append(problem.message)
        is_fatal = is_fatal or problem.kind in {"unreachable", "not_installed", "behind", "not_recorded"}
    checks = []
    for name, good in (("migrations", "the schema is this version's"), ("triggers", "all there and enabled")):
        if not groups[name]:
            checks.append(Check(name, "ok", good))
            continue
        status: Literal["warn", "fail"] = "fail" if is_fatal or name == "triggers" else "warn"
        checks.append(Check(name, status, "; ".join(groups[name]), "run `darkroom db upgrade`"))
    return checks


async def _mode(settings: Settings, services: Services) -> Check:
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


async def _workers(database: Database) -> Check:
    row = await database.fetchrow(
        "SELECT count(*), coalesce(sum(w.lanes), 0) FROM darkroom.workers w WHERE w.lease_expires_at > now()"
    )
    count, lanes = (0, 0) if row is None else (row[0], row[1])
    if count:
        return Check("workers", "ok", f"{count} live, {lanes} lanes")
    return Check("workers", "warn", "none is running", "start `darkroom worker`, or `darkroom up` for everything")


async def _broker(services: Services) -> Check:
    """Ring a bell as producers do: one more costs a worker an empty look."""
    scheme = services.broker_url.split(":", 1)[0]
    started_s = time.monotonic()

    def ring() -> None:
        broker = doorbell.make_broker(services.broker_url, middleware=[])
        try:
            doorbell.ring(broker, "default")
        finally:
            with suppress(Exception):
                broker.close()

    try:
        await asyncio.wait_for(asyncio.to_thread(ring), BROKER_TIMEOUT_S)
    except Exception as error:  # noqa: BLE001 - each broker has errors of its own, and a diagnosis reports them all
        reason = str(error) or type(error).__name__
        advice = "check BROKER_URL or REDIS_URL; until then workers look once a second"
        return Check("broker", "fail", f"{scheme} doesn't answer: {reason}", advice)
    return Check("broker", "ok", f"{scheme} took a bell in {1000 * (time.monotonic() - started_s):.0f} ms")


async def _storage(settings: Settings, services: Services) -> Check:
    """Write, read and delete one object."""
    data = uuid.uuid4().bytes
    key = f"doctor/{data.hex()}.bin"
    try:
        storage = open_storage(services.storage_url, settings.storage_public_url)
        await storage.put(key, data, "application/octet-stream", hashlib.sha256(data).hexdigest())
        is_same = await storage.get(key) == data
        await storage.delete(key)
        await storage.aclose()
    except (ValueError, StageError, OSError) as error:
        return Check("storage", "fail", str(error), "check STORAGE_URL, its rights and its free space")
    if not is_same:
        return Check("storage", "fail", "an object came back changed", "check STORAGE_URL")
    return Check("storage", "ok", f"{services.storage_url.split(':', 1)[0]}: takes, gives and deletes")


async def _providers(settings: Settings) -> list[Check]:
    """Ask each provider for its configured models: nothing is bought."""
    async with PixelPool() as pixels:
        limits = DecodeLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
        try:
            providers = open_providers(settings, pixels, limits)
        except ProviderNotConfiguredError as error:
            return [Check("provider", "fail", str(error), "check PROVIDER")]
        return [await _provider(provider) for provider in providers]


async def _provider(provider: Provider) -> Check:
    try:
        async with asyncio.timeout(PROVIDER_TIMEOUT_S):
            await provider.check()
    except ProviderNotConfiguredError as error:
        return Check("provider", "fail", f"{provider.name}: {error}", "see `darkroom config` for its key and models")
    except (StageError, TimeoutError) as error:
        reason = str(error) or f"no answer within {PROVIDER_TIMEOUT_S:g} s"
        return Check(
            "provider", "warn", f"{provider.name} can't be asked: {reason}", "check its address and the network"
        )
    finally:
        await provider.aclose()
    return Check("provider", "ok", provider.name)


def _fetcher(settings: Settings) -> Check:
    if settings.fetch_allow_loopback:
        message = "DARKROOM_FETCH_ALLOW_LOOPBACK is on: a stranger's URL may lead to this machine's own servers"
        return Check("input URLs", "warn", message, "unset it: it is for tests only")
    return Check("input URLs", "ok", "fetched from public addresses only")
