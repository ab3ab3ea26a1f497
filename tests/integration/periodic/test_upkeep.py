"""The periodic tasks for vouchers, usage and the ledger's audit."""

from datetime import UTC, datetime, timedelta

from tests.support.builders import make_job, make_user, new_id

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


async def make_voucher(database, *, expires=None, most=None, uses=0) -> str:
    voucher_id = new_id("v")
    await database.fetch(
        """INSERT INTO public.vouchers (id, code, type, value, "maxUses", "currentUses", "expiresAt", "updatedAt")
           VALUES ($1, $1, 'FIXED_TOKENS', 5, $2, $3, $4, darkroom.utc_now())""",
        voucher_id,
        most,
        uses,
        expires and expires.replace(tzinfo=None),
    )
    return voucher_id


async def test_vouchers_end_by_date_and_by_uses(database, make_engine):
    day = timedelta(days=1)
    expected = {
        await make_voucher(database): "ACTIVE",
        await make_voucher(database, expires=NOW + day, most=3, uses=2): "ACTIVE",
        await make_voucher(database, expires=NOW): "EXPIRED",
        await make_voucher(database, expires=NOW + day, most=3, uses=3): "DEPLETED",
    }

    counted = await make_engine().count("expire-vouchers", NOW)
    counts = await make_engine().run_extra("expire-vouchers", NOW)

    rows = await database.fetch("SELECT id, status::text FROM public.vouchers")
    assert counted == counts == {"expired": 1, "depleted": 1}
    assert {row["id"]: row["status"] for row in rows} == expected


async def test_usage_is_computed_from_the_facts_and_again_to_the_same(database, make_engine):
    now = await database.fetchval("SELECT clock_timestamp()")
    user_id = await make_user(database, balance=100)
    job_id = await make_job(database, user_id=user_id, tier="TIER_2K")
    await make_job(database, user_id=user_id, tier="TIER_4K")
    await database.fetch("UPDATE public.image_enhancement_jobs SET status = 'PROCESSING' WHERE id = $1", job_id)
    await database.fetch(
        """UPDATE public.image_enhancement_jobs SET status = 'COMPLETED', "enhancedSizeBytes" = 500,
               "processingCompletedAt" = darkroom.utc_now() WHERE id = $1""",
        job_id,
    )
    for cost in (0.04, 0.02):
        await database.fetch(
            """INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, purpose, may_be_paid,
                   images, cost_usd) VALUES ('enhance', $1, $2, 1, 'gemini', 'generate', true, 1, $3::float8)""",
            job_id,
            user_id,
            cost,
        )

    engine = make_engine(usage_limits={"tokens": 18, "cost_usd": 0.05, "jobs": 100})
    first = await engine.run_extra("roll-up-usage", now)
    second = await engine.run_extra("roll-up-usage", now + timedelta(hours=1))

    (row,) = await database.fetch("SELECT * FROM darkroom.usage_months WHERE jobs > 0")
    assert (row["jobs"], row["pictures"], row["tokens"], row["provider_calls"]) == (2, 1, 15, 2)
    assert (float(row["cost_usd"]), row["bytes_stored"]) == (0.06, 500 + 2 * 1000)
    (day,) = await database.fetch("SELECT * FROM darkroom.cost_days")
    assert (day["provider"], day["calls"], day["images"], float(day["cost_usd"])) == ("gemini", 2, 2, 0.06)
    warnings = await database.fetch(
        """SELECT metadata ->> 'measure' AS measure, (metadata ->> 'percent')::integer AS percent
           FROM public.error_logs WHERE "errorType" = 'UsageLimitWarning' AND "userId" = $1 ORDER BY 1, 2""",
        user_id,
    )
    assert [tuple(row) for row in warnings] == [("cost_usd", 80), ("cost_usd", 100), ("tokens", 80)]
    assert (first["users"], first["warnings"], second["users"], second["warnings"]) == (1, 3, 0, 0)


async def test_audit_writes_each_violation_once(database, make_engine, damage):
    user_id = await make_user(database, balance=10)
    await database.fetch('UPDATE public.user_token_balances SET balance = 11 WHERE "userId" = $1', user_id)

    for _twice in range(2):
        counts = await make_engine().run_extra("audit-ledger", NOW)

    (row,) = await database.fetch("""SELECT * FROM public.error_logs WHERE "errorType" = 'LedgerViolation'""")
    assert counts == {"violations": 1}
    assert (row["userId"], row["message"]) == (user_id, "I7: balance 11, opening balance 10 plus ledger 0")
