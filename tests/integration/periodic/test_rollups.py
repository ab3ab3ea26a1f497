"""Roll-ups: every end of a job and every event of its history is counted once, in its own minute."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from models.periodic.rollups import roll_up_ends, roll_up_stage_runs
from models.queue.counts import count_queues
from tests.support.builders import claim_jobs, make_job, make_user, set_status
from workers.periodic.tasks import roll_up_jobs

NOW = datetime(2026, 6, 15, 12, 0, 30, tzinfo=UTC)
RUN = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, at, duration_ms)
SELECT 'enhance', $1, $2, 'GENERATING', $3::timestamptz, $4 FROM generate_series(1, $5)
"""
STAGES = """
SELECT minute, tier, stage, event, events, seconds, (SELECT sum(c) FROM unnest(counts) c) AS timed
FROM darkroom.stage_minutes ORDER BY 1, 2, 3, 4
"""
JOBS = "SELECT job_type, tier, outcome, jobs, wait_s, run_s, run_counts FROM darkroom.job_minutes ORDER BY 1, 2, 3"


async def run(database, count=1, *, at=NOW, event="finished", ms=20_000, job="j1"):
    await database.fetch(RUN, job, event, at, ms, count)


async def roll_up(engine, at=NOW):
    return await engine.run_extra("roll-up-jobs", at)


async def counted(database):
    return int(await database.fetchval("SELECT coalesce(sum(events), 0) FROM darkroom.stage_minutes"))


@pytest.fixture
async def writer(database_url):
    """A program that keeps its transaction open; `write` adds a row of history."""
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def test_stages_are_counted_by_minute_tier_and_event_with_their_seconds(database, make_engine):
    job = await make_job(database, tier="TIER_4K")
    await run(database, 3, job=job)
    await run(database, at=NOW + timedelta(seconds=29), ms=40_000, job=job)
    await run(database, at=NOW + timedelta(seconds=30), ms=1, job=job)
    await run(database, 2, event="claimed", ms=None, job=job)

    counts = await roll_up(make_engine())

    first, second = datetime(2026, 6, 15, 12, tzinfo=UTC), datetime(2026, 6, 15, 12, 1, tzinfo=UTC)
    assert [tuple(row) for row in await database.fetch(STAGES)] == [
        (first, "TIER_4K", "GENERATING", "claimed", 2, 0, None),
        (first, "TIER_4K", "GENERATING", "finished", 4, 100, 4),
        (second, "TIER_4K", "GENERATING", "finished", 1, 0.001, 1),
    ]
    assert counts["events"] == 7


async def test_events_of_a_deleted_job_are_counted_without_its_tier(database, make_engine):
    await run(database, 2)

    await roll_up(make_engine())

    assert [(row["tier"], row["events"]) for row in await database.fetch(STAGES)] == [("", 2)]


async def test_event_that_is_committed_late_is_counted_once_in_its_minute(database, make_engine, writer):
    engine = make_engine()
    late = writer.transaction()
    await late.start()
    await writer.execute(RUN, "j1", "finished", NOW, 20_000, 2)  # its ids are lower than those of the next rows
    await run(database, 3, at=NOW + timedelta(minutes=1))
    while_open = await roll_up(engine), await counted(database)
    await run(database, 4, at=NOW + timedelta(minutes=2))
    still_open = await roll_up(engine, NOW + timedelta(minutes=1)), await counted(database)

    await late.commit()
    await roll_up(engine, NOW + timedelta(minutes=2))
    await roll_up(engine, NOW + timedelta(minutes=3))

    assert while_open[1] == still_open[1] == 0
    assert [row["events"] for row in await database.fetch(STAGES)] == [2, 3, 4]


async def test_transaction_that_writes_no_history_delays_nothing(database, make_engine, writer):
    async with writer.transaction(isolation="serializable"):
        user = await make_user(database)
        await writer.execute("UPDATE public.users SET name = $1 WHERE id = $1", user)
        await writer.fetch("SELECT count(*) FROM darkroom.stage_runs")
        await run(database, 5)

        await roll_up(make_engine())

        assert await counted(database) == 5


async def test_rolled_back_rows_leave_a_gap_that_is_passed(database, make_engine, writer):
    async with writer.transaction():
        await writer.execute("SELECT setval('darkroom.stage_runs_id_seq', 9000000000)")
    await run(database, 2)

    counts = await roll_up(make_engine())

    assert (counts["events"], await counted(database)) == (2, 2)


async def test_every_event_is_counted_once_with_writers_and_schedulers_that_are_cut_off(
    database, database_url, make_engine, monkeypatch
):
    """Writers commit in another order than that of their ids; schedulers look all the time and lose connections."""
    monkeypatch.setattr(roll_up_jobs, "FIRST_IDS", 7)
    chance = random.Random(3)
    done = asyncio.Event()

    async def write_rows():
        connection = await asyncpg.connect(database_url)
        for _ in range(25):
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(RUN, "j1", "finished", NOW, 1_000, chance.randrange(1, 4))
            await asyncio.sleep(chance.random() * 0.02)
            await (transaction.commit() if chance.random() < 0.8 else transaction.rollback())
        await connection.close()

    async def look(number):
        own = Database(parse_postgres_url(database_url), most_connections=2)
        await own.open()
        engine = make_engine(own)
        minute = number * 1_000
        while not done.is_set():
            minute += 1
            task = asyncio.create_task(roll_up(engine, NOW + timedelta(minutes=minute)))
            await asyncio.wait([task], timeout=chance.random() * 0.1)
            if not task.done():
                await database.fetch(
                    """SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()
                       AND query LIKE '%roll_up%' AND pid <> pg_backend_pid()"""
                )
            await asyncio.gather(task, return_exceptions=True)
        await own.close()

    looking = [asyncio.create_task(look(number)) for number in (1, 2)]
    await asyncio.gather(*(write_rows() for _ in range(8)))
    done.set()
    await asyncio.gather(*looking)
    await roll_up(make_engine(), NOW - timedelta(days=1))

    assert await counted(database) == await database.fetchval("SELECT count(*) FROM darkroom.stage_runs")


async def test_chunk_that_is_cut_off_before_its_commit_is_done_again_once(database):
    await run(database, 5)
    await set_status(database, await make_job(database), "CANCELLED")

    class CutOffError(Exception):
        """Ends a chunk before its commit."""

    async def chunk(connection, *, is_cut_off):
        async with connection.transaction():
            await roll_up_ends(connection, 100)
            await roll_up_stage_runs(connection, 100)
            if is_cut_off:
                raise CutOffError

    for is_cut_off in (True, True, False, False):
        await asyncio.gather(
            database.run(lambda connection, cut=is_cut_off: chunk(connection, is_cut_off=cut)), return_exceptions=True
        )

    assert await counted(database) == 5
    assert await database.fetchval("SELECT sum(jobs) FROM darkroom.job_minutes") == 1


async def test_ends_are_counted_whoever_writes_them_with_wait_and_run(database, make_engine):
    jobs = [await make_job(database, tier="TIER_2K") for _ in range(2)]
    await database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '100 s'")
    (first,) = await claim_jobs(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET claimed_at = now() - interval '40 s' WHERE claimed_at IS NOT NULL"""
    )
    await set_status(database, first.job_id, "FAILED")
    await set_status(database, first.job_id, "REFUNDED")  # a label, not a second end
    await set_status(database, jobs[1], "CANCELLED")
    deleted = await make_job(database)
    await database.fetch("DELETE FROM public.image_enhancement_jobs WHERE id = $1", deleted)

    counts = await roll_up(make_engine())

    rows = [tuple(row)[:4] for row in await database.fetch(JOBS)]
    assert rows == [
        ("enhance", "TIER_1K", "DELETED", 1),
        ("enhance", "TIER_2K", "CANCELLED", 1),
        ("enhance", "TIER_2K", "FAILED", 1),
    ]
    _, cancelled, failed = await database.fetch(JOBS)
    assert (round(cancelled["wait_s"]), cancelled["run_s"], cancelled["run_counts"]) == (100, 0, [])
    assert (round(failed["wait_s"]), round(failed["run_s"]), sum(failed["run_counts"])) == (60, 40, 1)
    assert counts["jobs"] == 3
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_ends") == 0


async def test_wait_begins_at_the_time_that_the_producer_gave(database, make_engine):
    job = await make_job(database)
    await database.fetch(
        """UPDATE darkroom.job_queue SET created_at = now() - interval '1 h', run_at = now() - interval '10 s'"""
    )
    await set_status(database, job, "CANCELLED")

    await roll_up(make_engine())

    assert 9 <= await database.fetchval("SELECT wait_s FROM darkroom.job_minutes") < 60


async def test_first_claim_ends_the_wait_of_a_job_that_is_claimed_twice(database):
    await make_job(database)
    (claim,) = await claim_jobs(database)
    first = await database.fetchval("SELECT claimed_at FROM darkroom.job_queue")
    await set_status(database, claim.job_id, "PENDING")
    await claim_jobs(database)

    row = await database.fetchrow("SELECT claimed_at, started_at FROM darkroom.job_queue")
    assert row["claimed_at"] == first < row["started_at"]


async def test_minutes_are_folded_into_hours_after_two_days_and_late_ones_too(database, make_engine):
    engine = make_engine()
    for minute in (0, 29, 59, 60):
        await run(database, 2, at=NOW + timedelta(minutes=minute), ms=1_000 * (minute + 1))
    await set_status(database, await make_job(database), "CANCELLED")
    await database.fetch("UPDATE darkroom.job_ends SET at = $1", NOW)
    await database.fetch(
        """INSERT INTO darkroom.queue_minutes SELECT $1::timestamptz + n * interval '1 min', 'default', 'waiting', n, n
           FROM generate_series(0, 2) n""",
        NOW.replace(second=0),
    )
    await roll_up(engine, NOW)
    early = await roll_up(engine, NOW + timedelta(days=2))
    await roll_up(engine, NOW + timedelta(days=2, hours=1))
    await run(database, 5, at=NOW, ms=20_000)
    await roll_up(engine, NOW + timedelta(days=2, hours=1, minutes=1))

    assert early.get("folded", 0) == 0
    (hour,) = await database.fetch("SELECT * FROM darkroom.stage_hours")
    assert (hour["hour"], hour["events"], hour["seconds"]) == (NOW.replace(second=0), 11, 2 * (1 + 30 + 60) + 100)
    assert sum(hour["counts"]) == 11
    assert [tuple(row) for row in await database.fetch("SELECT minute, events FROM darkroom.stage_minutes")] == [
        (NOW.replace(hour=13, second=0), 2)
    ]
    jobs = await database.fetchrow("SELECT * FROM darkroom.job_hours")
    assert (jobs["outcome"], jobs["jobs"], sum(jobs["wait_counts"]), jobs["run_counts"]) == ("CANCELLED", 1, 1, [])
    assert await database.fetchval("SELECT count(*) FROM darkroom.job_minutes") == 0
    kept = await database.fetchrow("SELECT * FROM darkroom.queue_hours")
    assert (kept["queue"], kept["jobs"], kept["oldest_wait_s"]) == ("default", 1, 1.0)


async def test_hours_are_deleted_when_they_are_old(database, make_engine):
    for table in ("job_hours", "stage_hours", "queue_hours"):
        values = "0, 0, '{}', '{}'" if table == "job_hours" else "0, '{}'" if table == "stage_hours" else "0"
        names = "'enhance', '', 'x', 1" if table == "job_hours" else "'enhance', '', 'x', 'finished', 1"
        row = f"{names}, {values}" if table != "queue_hours" else "'default', 'waiting', 1, 0"
        await database.fetch(
            f"INSERT INTO darkroom.{table} SELECT h, {row} FROM unnest($1::timestamptz[]) h",
            [NOW - timedelta(days=401), NOW - timedelta(days=399)],
        )

    deleted = [await make_engine().run_extra(f"prune-{name}_hours", NOW) for name in ("job", "stage", "queue")]

    assert [one["deleted"] for one in deleted] == [1, 1, 1]


async def test_nothing_is_rolled_up_where_nothing_happened(database, make_engine):
    assert await roll_up(make_engine()) == {"jobs": 0, "events": 0, "folded": 0}
    assert await make_engine().count("roll-up-jobs", NOW) == {"jobs": 0, "stage_runs": 0}


async def test_cursor_that_is_lost_counts_nothing_twice(database, make_engine):
    engine = make_engine()
    await run(database, 3)
    await roll_up(engine)
    await database.fetch("DELETE FROM darkroom.rollup_cursor")
    await run(database, 2)
    await roll_up(engine, NOW + timedelta(minutes=1))
    await run(database, 4)
    await roll_up(engine, NOW + timedelta(minutes=2))

    assert await counted(database) == 3 + 4


async def test_sequence_that_was_set_back_counts_nothing_twice(database, make_engine):
    """As after a switch by logical replication, until `db upgrade` moves the sequence past its rows."""
    engine = make_engine()
    await run(database, 5)
    await roll_up(engine)
    await database.fetch("SELECT setval('darkroom.stage_runs_id_seq', 1, false)")
    await run(database, 1)
    await roll_up(engine, NOW + timedelta(minutes=1))
    await database.fetch("SELECT setval('darkroom.stage_runs_id_seq', 5)")
    await run(database, 2)
    await roll_up(engine, NOW + timedelta(minutes=2))

    assert await counted(database) == 5 + 2


async def test_history_is_read_by_its_index(database):
    """A scan of whole partitions would take minutes with the history of a month."""
    await database.fetch(
        """INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, at, duration_ms)
           SELECT 'enhance', 'j' || n, 'finished', 'GENERATING', $1, 1000 FROM generate_series(1, 60000) n""",
        NOW,
    )
    await database.fetch("SELECT brin_summarize_new_values('darkroom.stage_runs_default_id_idx')")
    blocks = await database.fetchval("SELECT pg_relation_size('darkroom.stage_runs_default') / 8192")
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM darkroom.roll_up_stage_runs(100)"

    async def read_three(connection):
        return [(await connection.fetchval(explain))[0]["Plan"]["Shared Hit Blocks"] for _ in range(3)]

    _, *read = await database.run(read_three)  # the first one reads the catalogue, too

    assert blocks > 4 * 128
    assert max(read) < 128 + 100
    assert await counted(database) == 300


async def test_seconds_of_a_stage_are_those_of_its_last_runs(database, make_engine):
    engine = make_engine()
    job = await make_job(database, tier="TIER_4K")
    await run(database, 600, ms=2_000, job=job)
    await roll_up(engine)
    await run(database, 400, ms=60_000, job=job)
    await roll_up(engine, NOW + timedelta(minutes=1))

    (row,) = await database.fetch("SELECT * FROM darkroom.stage_times('enhance', 'TIER_4K')")

    assert (row["stage"], row["runs"], row["basis"]) == ("GENERATING", 500, "tier")
    assert row["mean_s"] == pytest.approx((100 * 2 + 400 * 60) / 500)
    assert row["p05_s"] == pytest.approx(2, rel=0.2)
    assert row["p50_s"] == pytest.approx(60, rel=0.2)
    assert sum(row["counts"]) == pytest.approx(500)


@pytest.mark.parametrize(
    ("seen", "basis", "mean_s"),
    [
        ({("enhance", "TIER_1K"): 20, ("enhance", "TIER_4K"): 50, ("blend", "TIER_1K"): 50}, "tier", 1),
        ({("enhance", "TIER_1K"): 10, ("enhance", "TIER_4K"): 30, ("blend", "TIER_1K"): 50}, "type", 3.25),
        ({("enhance", "TIER_1K"): 1, ("blend", "TIER_1K"): 24}, "stage", 0.96 * 9 + 0.04),
        ({("enhance", "TIER_1K"): 6, ("blend", "TIER_1K"): 9}, "tier", 1),
        ({("enhance", "TIER_4K"): 2}, "type", 4),
        ({}, None, None),
    ],
)
async def test_stage_that_was_seldom_seen_has_the_seconds_of_similar_jobs(database, seen, basis, mean_s):
    seconds = {("enhance", "TIER_1K"): 1.0, ("enhance", "TIER_4K"): 4.0, ("blend", "TIER_1K"): 9.0}
    for (job_type, tier), runs in seen.items():
        await database.fetch(
            """INSERT INTO darkroom.recent_stages VALUES ($1, $2, 'GENERATING', $3, $4,
                   darkroom.bucket_counts(ARRAY[darkroom.bucket_of($5)], ARRAY[$3::float8::bigint]))""",
            job_type,
            tier,
            float(runs),
            runs * seconds[job_type, tier],
            seconds[job_type, tier],
        )

    rows = await database.fetch("SELECT * FROM darkroom.stage_times('enhance', 'TIER_1K')")

    assert [row["basis"] for row in rows] == ([basis] if basis else [])
    assert [row["mean_s"] for row in rows] == ([pytest.approx(mean_s)] if basis else [])


async def test_quantiles_are_within_a_bucket_of_the_exact_ones(database):
    chance = random.Random(1)
    times = sorted(chance.lognormvariate(2, 1) for _ in range(2_000))
    counts = await database.fetchval(
        """SELECT darkroom.bucket_counts(array_agg(darkroom.bucket_of(t)), array_agg(1::bigint))
           FROM unnest($1::float8[]) t""",
        times,
    )

    assert Counter({i: n for i, n in enumerate(counts, start=1) if n}).total() == 2_000
    for fraction in (0.05, 0.25, 0.5, 0.75, 0.95):
        found = await database.fetchval("SELECT darkroom.quantile_s($1::float8[], $2)", counts, fraction)
        assert found == pytest.approx(times[int(fraction * 2_000)], rel=0.05)
    edges = await database.fetch("SELECT darkroom.bucket_of(t) AS b FROM unnest($1::float8[]) t", [0, 1e-9, 1e9, 1.0])
    assert [row["b"] for row in edges] == [1, 1, 96, 29]


async def test_counts_of_queues_are_kept_by_minute(database, make_engine):
    await make_job(database)
    await count_queues(database)
    at = await database.fetchval("SELECT now()")

    for minute in (0, 1):
        await roll_up(make_engine(), at + timedelta(minutes=minute))

    rows = await database.fetch("SELECT queue, status, jobs FROM darkroom.queue_minutes")
    assert [tuple(row) for row in rows] == [("default", "waiting", 1)]


async def test_counts_of_empty_queues_are_kept_too(database, make_engine):
    await count_queues(database)

    await roll_up(make_engine(), await database.fetchval("SELECT now()"))

    rows = await database.fetch("SELECT queue, status, jobs, oldest_wait_s FROM darkroom.queue_minutes")
    assert [tuple(row) for row in rows] == [("default", "waiting", 0, 0.0)]
