"""The auditor names each fault that a test makes, so that no check passes whatever happens."""

import hashlib
import itertools
import json
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.applications.files.trial import rolled_back
from models.queue.refusals import settle_refused_ends
from models.queue.rescue import end_overdue_jobs
from models.queue.transitions import Checkpoint, Completed, Failed, Retried, record
from tests.chaos import evidence
from tests.chaos.auditor import CHECKS, audit
from tests.chaos.book import Book, Submitted
from tests.chaos.planting import plant
from tests.chaos.programs import PRICE
from tests.support.builders import claim_jobs, make_image, make_user, make_worker
from tests.support.rules import allow, refuse

PICTURE = b"a picture"
SHA256 = hashlib.sha256(PICTURE).hexdigest()
STAGES = ("ANALYZING", "CROPPING", "PROMPTING", "GENERATING")


class Place:
    """A database with evidence, and objects beside it."""

    def __init__(self, database, url, folder):
        self.database, self.url, self.objects = database, url, folder / "objects"
        self.objects.mkdir()
        self.count_path = folder / "count"
        self.count_path.touch()
        self.book = Book()

    async def submit(self, job_id):
        user = await make_user(self.database)
        image = await make_image(self.database, user)
        await self.database.fetch(
            """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status,
                   "updatedAt") VALUES ($1, $2, $3, 'TIER_1K', $4, 'PENDING', darkroom.utc_now())""",
            job_id,
            image,
            user,
            PRICE["TIER_1K"],
        )
        self.book.submitted.append(Submitted(job_id, user, image, f"key-{job_id}"))

    async def advance(self, held):
        """Take a claim through its stages as a worker does, up to GENERATING."""
        for stage, following in itertools.pairwise(STAGES):
            await self.write(held, Checkpoint(stage, following, 60, 1))

    async def complete(self, held):
        """Buy a picture, store it, and say so."""
        key = f"users/x/enhanced/{held.job_id}.jpg"
        path = self.objects / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
        await self.call(held, "answered")
        columns = {"enhancedR2Key": key, "enhancedSizeBytes": len(PICTURE)}
        await self.write(held, Completed("GENERATING", 1, columns, {"sha256": SHA256}))

    async def write(self, held, transition):
        await self.database.run(lambda connection: record(connection, held, transition))

    async def call(self, held, outcome):
        await self.database.fetch(
            """INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, purpose, outcome,
                   may_be_paid) VALUES ($1, $2, $3, $4, 'gemini', 'generate', $5, true)""",
            held.job_type,
            held.job_id,
            held.user_id,
            held.attempt,
            outcome,
        )
        self.count("called")
        if outcome == "answered":
            self.count("picture")

    async def cancel(self, job_id):
        """Cancel as another program."""
        connection = await asyncpg.connect(**parse_postgres_url(self.url).asyncpg_arguments())
        await connection.execute("SELECT darkroom.cancel_job($1)", job_id)
        await connection.close()

    def count(self, event):
        with self.count_path.open("a") as lines:
            lines.write(json.dumps({"at": 1_000, "event": event, "purpose": "generate"}) + "\n")

    async def audit(self, *planted):
        """Return what is found after statements that write past every trigger, as nobody may, and don't last."""
        async with self.database.connection() as connection, rolled_back(connection):
            await plant(connection, planted)
            await evidence.load(connection, self.book, self.count_path)
            return await audit(connection, self.objects)


@pytest.fixture
async def place(database, database_url, tmp_path):
    """Four jobs that ended as they should: completed, completed at the second attempt, refunded, cancelled."""
    await evidence.prepare(database_url)
    place = Place(database, database_url, tmp_path)
    worker = await make_worker(database)
    for job_id in ("completed", "retried", "failed", "cancelled"):
        await place.submit(job_id)
        (held,) = await claim_jobs(database, worker)
        if job_id == "completed":
            await place.advance(held)
            await place.complete(held)
        elif job_id == "retried":
            await place.advance(held)
            await place.write(held, Retried("GENERATING", "no answer", timedelta()))
            await place.complete(*await claim_jobs(database, worker))
        elif job_id == "failed":
            await place.write(held, Failed("ANALYZING", "no picture"))
        else:
            await place.cancel(job_id)
    return place


async def test_nothing_is_found_where_nothing_is_broken(place):
    assert await place.audit() == []


async def test_label_that_follows_its_refused_end_is_no_late_write(place):
    await place.submit("settled")
    await refuse(place.database, "raise", "NEW.id = 'settled'")
    await place.database.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '2 days'")
    assert await end_overdue_jobs(place.database, 86_400) == 1
    await allow(place.database)
    await place.database.fetch("UPDATE darkroom.refused_ends SET tried_at = now() - interval '1 day'")

    assert await settle_refused_ends(place.database) == 1

    assert await place.audit() == []
    assert await place.database.fetchval("SELECT label FROM chaos.settled") == "REFUNDED"


JOBS = "public.image_enhancement_jobs"
OTHER = uuid4()

PLANTED = {
    ("I1", "not terminal"): [f"UPDATE {JOBS} SET status = 'PROCESSING' WHERE id = 'completed'"],
    ("I1", "still queued"): [
        """INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, position, max_attempts)
           VALUES ('enhance', 'completed', 'u', 'FREE', 'default', 'ANALYZING', 1, 1)"""
    ],
    ("I1", "lost"): [f"DELETE FROM {JOBS} WHERE id = 'completed'"],
    ("I1", "nobody's"): [f"UPDATE {JOBS} SET id = 'twin' WHERE id = 'cancelled'"],
    ("caps", "exceeded"): ["INSERT INTO chaos.exceeded VALUES ('u: 3 jobs run, and 2 may')"],
    ("I2", "claimed while held"): [
        """UPDATE darkroom.stage_runs SET event = 'finished', stage = 'ANALYZING'
           WHERE job_id = 'retried' AND event = 'retried'"""
    ],
    ("I2", "written by a lost claim"): [
        f"""UPDATE darkroom.stage_runs SET worker_id = '{OTHER}' WHERE job_id = 'retried' AND event = 'finished'
            AND stage = 'GENERATING'"""
    ],
    ("I2", "written past its fence"): ["DELETE FROM darkroom.stage_runs WHERE job_id = 'completed'"],
    ("I2", "rescued from the living"): ["UPDATE darkroom.stage_runs SET event = 'rescued' WHERE event = 'retried'"],
    ("I3", "charged or refunded twice"): [
        """INSERT INTO public.token_transactions SELECT 'twice', "userId", amount, type, source, "sourceId",
               "balanceAfter" FROM public.token_transactions WHERE "sourceId" = 'failed' AND type = 'REFUND'"""
    ],
    ("I3", "not charged"): ["DELETE FROM darkroom.job_money WHERE job_id = 'completed'"],
    ("I3", "not refunded"): ["DELETE FROM darkroom.job_money WHERE job_id = 'failed' AND kind = 'refund'"],
    ("I3", "deleted and not refunded"): [
        f"DELETE FROM {JOBS} WHERE id = 'completed'",
        "INSERT INTO chaos.status_log (job_id, before, after) VALUES ('completed', 'PENDING', 'DELETED')",
    ],
    ("I3", "refunded beyond its charge"): [
        "UPDATE darkroom.job_money SET amount = 7 WHERE job_id = 'failed' AND kind = 'refund'"
    ],
    ("I3", "ledger against keys"): ["DELETE FROM public.token_transactions WHERE \"sourceId\" = 'completed'"],
    ("I3", "one key, two jobs"): ["INSERT INTO chaos.submitted VALUES ('failed', 'u', 'i', 'key-completed', true)"],
    ("I4", "completed and refunded"): ["INSERT INTO darkroom.job_money VALUES ('enhance', 'completed', 'refund', 2)"],
    ("I4", "no picture recorded"): [f"UPDATE {JOBS} SET \"enhancedR2Key\" = NULL WHERE id = 'completed'"],
    ("I4", "no picture stored"): [f"UPDATE {JOBS} SET \"enhancedR2Key\" = 'users/x/none' WHERE id = 'completed'"],
    ("I4", "wrong picture stored"): [
        """UPDATE darkroom.stage_runs SET output = '{"sha256": "0"}' WHERE job_id = 'completed'
           AND stage = 'GENERATING'"""
    ],
    ("I5", "changed after its end"): [
        """INSERT INTO chaos.status_log (job_id, before, after, program)
           VALUES ('failed', 'REFUNDED', 'CANCELLED', 'x'), ('failed', 'CANCELLED', 'REFUNDED', 'x')"""
    ],
    ("I5", "not what was logged last"): [f"UPDATE {JOBS} SET status = 'FAILED' WHERE id = 'cancelled'"],
    ("I6", "finished twice"): [
        "UPDATE darkroom.stage_runs SET stage = 'ANALYZING' WHERE job_id = 'completed' AND stage = 'CROPPING'"
    ],
    ("I6", "went back"): [
        "UPDATE darkroom.stage_runs SET stage = 'PROMPTING' WHERE job_id = 'completed' AND stage = 'ANALYZING'"
    ],
    ("I6", "bought after it was finished"): [
        "UPDATE darkroom.provider_calls SET started_at = now() + interval '1 minute' WHERE job_id = 'completed'"
    ],
    ("I7", "balance against ledger"): ["UPDATE public.user_token_balances SET balance = balance + 1"],
    ("I7", "below zero"): ["UPDATE public.user_token_balances SET balance = -1"],
    ("I7", "at some commit"): [
        """UPDATE public.token_transactions SET "balanceAfter" = "balanceAfter" + 1 WHERE "sourceId" = 'completed'"""
    ],
    ("I7", "balance against keys"): [
        "INSERT INTO chaos.own_balances VALUES ('{enhance}', (SELECT id FROM public.users LIMIT 1), 10, 9)"
    ],
    ("I12", "no job completed after a loss"): [
        "INSERT INTO chaos.injected VALUES ('flush', now() - interval '3 h', now() - interval '2 h', NULL, '')",
        f"""UPDATE {JOBS} SET "createdAt" = darkroom.utc_now() - interval '4 h' WHERE id = 'completed'""",
    ],
    ("bought once", "answers"): [
        """INSERT INTO chaos.provider_count VALUES (now(), 'picture', 'generate'), (now(), 'called', 'generate')"""
    ],
    ("bought once", "answers for one job"): ["UPDATE darkroom.provider_calls SET job_id = 'completed'"],
    ("bought once", "calls without an intent"): ["DELETE FROM darkroom.provider_calls"],
    ("foreign programs", "serialization failure"): ["INSERT INTO chaos.isolation_failures VALUES ('40001')"],
    ("foreign programs", "cancel refused"): ["INSERT INTO chaos.refused_cancels VALUES ('22003')"],
    ("foreign programs", "another program's table"): ["DELETE FROM public.somebody_elses WHERE id = 1"],
    ("no deadlock", "suffered"): ["INSERT INTO chaos.deadlocks VALUES ('deadlock detected')"],
}


async def test_what_is_planted_is_named(place):
    for planted, statements in PLANTED.items():
        found = {(one.promise, one.finding.partition(":")[0]) for one in await place.audit(*statements)}

        assert planted in found
    assert await place.audit() == []


def test_every_check_has_something_planted():
    objects = {("I4", "no picture recorded"), ("I4", "no picture stored"), ("I4", "wrong picture stored")}
    assert set(PLANTED) == {(promise, name) for promise, checks in CHECKS.items() for name in checks} | objects
