"""The audit of `studio` names each fault that a test makes, so that none of its checks passes whatever happens."""

import asyncio
import hashlib
import json

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from config.tiers import PRICES_TOKENS
from models.applications import registry
from models.applications.files.trial import rolled_back
from models.applications.studio.application import application
from models.queue.checkpoints import completed
from models.queue.transitions import Failed, record
from models.schema.migrate import upgrade
from tests.chaos import evidence
from tests.chaos.auditor import audit
from tests.chaos.book import Book, Submitted
from tests.chaos.conditions import ROLE
from tests.chaos.planting import plant
from tests.chaos.studio import ADDED, DDL
from tests.chaos.studio_audit import CHECKS
from tests.chaos.studio_programs import INSERT
from tests.integration.queue.conftest import connect, foreign
from tests.support.builders import claim_jobs, make_worker

__all__ = ["connect", "foreign"]

TABLES = ADDED.tables


@pytest.fixture(scope="session")
def template(services):
    """Name of a database with the tables of pictures and of studio, upgraded."""
    url = parse_postgres_url(services.database_url)

    async def make():
        connection = await asyncpg.connect(**url.asyncpg_arguments())
        await connection.execute(
            f"DO $$ BEGIN IF to_regrole('{ROLE}') IS NULL THEN CREATE ROLE {ROLE} LOGIN; END IF; END $$"
        )
        await connection.execute("CREATE DATABASE chaos_studio_template")
        await connection.close()
        own = url.with_database("chaos_studio_template")
        connection = await asyncpg.connect(**own.asyncpg_arguments())
        await connection.execute(DDL)
        await connection.close()
        names = ("pictures", *ADDED.applications)
        await upgrade(own.text(), mode="managed", prices=PRICES_TOKENS, applications=names, with_application=True)

    asyncio.run(make())
    return "chaos_studio_template"


@pytest.fixture(autouse=True)
def both_applications(only_pictures):
    """Let this process drain both."""
    registry.use([*registry.applications(), application("studio")])


class Studio:
    """A database with evidence, objects beside it, and the book of what was asked for."""

    def __init__(self, database, folder):
        self.database, self.objects, self.count_path = database, folder / "objects", folder / "count"
        self.objects.mkdir()
        self.count_path.touch()
        self.book = Book()

    async def submit(self, job_id, count=2):
        row = {
            "id": job_id,
            "user": "s1",
            "status": "pending",
            "parameters": {"count": count},
            "products": [],
            "models": [],
            "tokens": 2 * count,
        }
        await self.database.fetch(INSERT, json.dumps([row]))
        self.book.submitted.append(Submitted(job_id, "s1", None, pictures=count))

    async def complete(self, held, count=2):
        """Buy the pictures of a generation, store them, and say so."""
        pictures = []
        for number in range(1, count + 1):
            content = f"picture {number} of {held.job_id}".encode()
            sha256 = hashlib.sha256(content).hexdigest()
            key = f"studio/s1/{held.job_id}-{number}-{sha256[:16]}.jpg"
            path = self.objects / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            await self.buy(held)
            await self.database.fetch(
                "INSERT INTO darkroom.objects (key, job_type, job_id, sha256) VALUES ($1, $2, $3, $4)",
                *(key, held.job_type, held.job_id, sha256),
            )
            pictures.append(
                {
                    "key": key,
                    "url": f"https://pictures.test/{key}",
                    "width_px": 1024,
                    "height_px": 768,
                    "size_bytes": len(content),
                    "sha256": sha256,
                    "model": "m",
                    "temperature": 1.0,
                }
            )
        *before, last = pictures
        end = completed(held.job_type, "GENERATING", last, last, before=before, duration_ms=1, pipeline_id=None)
        await self.database.run(lambda connection: record(connection, held, end))

    async def buy(self, held):
        await self.database.fetch(
            """INSERT INTO darkroom.provider_calls (job_type, job_id, user_id, attempt, provider, purpose, outcome,
                   may_be_paid) VALUES ($1, $2, $3, $4, 'gemini', 'generate', 'answered', true)""",
            held.job_type,
            held.job_id,
            held.user_id,
            held.attempt,
        )
        with self.count_path.open("a") as lines:
            for event in ("called", "picture"):
                lines.write(json.dumps({"at": 1_000, "event": event, "purpose": "generate"}) + "\n")

    async def audit(self, *planted):
        """Return what is found after statements that write past every trigger, as nobody may, and don't last."""
        async with self.database.connection() as connection, rolled_back(connection):
            await plant(connection, planted)
            await evidence.load(connection, self.book, self.count_path, TABLES)
            return await audit(connection, self.objects, (ADDED,))


@pytest.fixture
async def studio(database, database_url, foreign, tmp_path):
    """Generations that ended as they should: completed, failed, cancelled, and deleted before and after their end."""
    await database.fetch(
        """INSERT INTO studio.users (_id, email, "tokenBalance") VALUES ('s1', 's1@studio.test', 90)"""
    )
    await evidence.prepare(database_url, TABLES)
    studio, worker = Studio(database, tmp_path), await make_worker(database)
    for job_id in ("completed", "failed", "cancelled", "gone", "deleted"):
        await studio.submit(job_id)
        (held,) = await claim_jobs(database, worker)
        if job_id in {"completed", "gone"}:
            await studio.complete(held)
        elif job_id == "failed":
            end = Failed("GENERATING", "no picture")
            await database.run(lambda connection, held=held, end=end: record(connection, held, end))
        elif job_id == "cancelled":
            await foreign.execute("UPDATE studio.generations SET status = 'cancelled' WHERE _id = 'cancelled'")
        if job_id in {"gone", "deleted"}:
            studio.book.deleted.add(("job", job_id))
            await foreign.execute("DELETE FROM studio.generations WHERE _id = $1", job_id)
    await database.fetch("""UPDATE studio.users SET "tokenBalance" = "tokenBalance" + 10""")
    await database.fetch("INSERT INTO studio.purchases VALUES ('s1', 10)")
    return studio


async def test_nothing_is_found_where_nothing_is_broken(studio):
    assert await studio.audit() == []
    assert await studio.database.fetchval("SELECT count(*) FROM studio.files") == 2
    assert await studio.database.fetchval("SELECT count(*) FROM chaos.own_balances") == 1


GENERATIONS, ENTRIES = "studio.generations", "darkroom.token_entries"
OF = "metadata ->> 'generationId' ="

PLANTED = {
    ("I1", "generation not over"): [f"UPDATE {GENERATIONS} SET status = 'processing' WHERE _id = 'completed'"],
    ("I3", "generation not charged once"): [f"DELETE FROM {ENTRIES} WHERE job_id = 'completed'"],
    ("I3", "generation not refunded once"): [
        f"""INSERT INTO {ENTRIES} (application, user_id, amount, kind, job_id, balance_after)
            SELECT application, user_id, amount, kind, job_id, balance_after FROM {ENTRIES}
            WHERE job_id = 'failed' AND kind = 'refund'"""
    ],
    ("I3", "deleted generation not refunded once"): [
        f"DELETE FROM {ENTRIES} WHERE job_id = 'deleted' AND kind = 'refund'"
    ],
    ("I3", "entry without a generation"): [f"DELETE FROM {GENERATIONS} WHERE _id = 'cancelled'"],
    ("I4", "files of a generation"): ["DELETE FROM studio.files WHERE \"storageId\" LIKE '%-2-%'"],
    ("I4", "file of no generation"): [
        """INSERT INTO studio.files ("userId", category, "storageId") VALUES ('s1', 'generated_image', 'studio/x')"""
    ],
    ("I4", "file described otherwise"): ["""UPDATE studio.files SET width = 1000"""],
    ("I4", "end described otherwise"): [f"UPDATE {GENERATIONS} SET \"completedAt\" = NULL WHERE _id = 'completed'"],
    ("I4", "no picture recorded"): [
        """UPDATE studio.files SET "storageId" = 'studio/s1/none.jpg' WHERE "storageId" LIKE '%completed-1-%'"""
    ],
    ("I4", "no picture stored"): [
        """UPDATE studio.files SET "storageId" = 'studio/s1/completed-1-0123456789abcdef.jpg'
           WHERE "storageId" LIKE '%-1-%'"""
    ],
    ("I4", "wrong picture stored"): ["""UPDATE studio.files SET "sizeBytes" = 1"""],
    ("I7", "balance against entries"): ["""UPDATE studio.users SET "tokenBalance" = "tokenBalance" + 1"""],
    ("I7", "entry after entry"): [f"UPDATE {ENTRIES} SET balance_after = balance_after + 1 WHERE job_id = 'completed'"],
    ("I7", "changes by others"): ["DELETE FROM studio.purchases"],
    ("I7", "balance against keys"): [
        "UPDATE darkroom.job_money SET amount = amount + 1 WHERE job_id = 'completed' AND kind = 'charge'"
    ],
    ("I7", "entry by a repair"): ["INSERT INTO chaos.repaired VALUES (now() - interval '1 h')"],
    ("usage", "lines of a generation"): [
        f"DELETE FROM studio.usage WHERE {OF} 'failed' AND action = 'generation_failed'"
    ],
    ("usage", "metadata of a generation"): [
        f"""UPDATE studio.usage SET metadata = metadata || '{{"fileIds": []}}' WHERE {OF} 'completed'"""
    ],
    ("usage", "lines of a deleted generation"): [f"DELETE FROM studio.usage WHERE {OF} 'deleted'"],
    ("usage", "line of no generation"): [
        """INSERT INTO studio.usage ("userId", action, metadata)
           VALUES ('s1', 'generation_started', '{"generationId": "never"}')"""
    ],
    ("bought once", "answers for one job"): [
        "UPDATE darkroom.provider_calls SET job_id = 'completed', job_type = 'studio.generate'"
    ],
    ("bought once", "answers"): [
        "INSERT INTO chaos.provider_count SELECT now(), 'picture', 'generate' FROM generate_series(1, 5)"
    ],
}


async def test_what_is_planted_is_named(studio):
    for planted, statements in PLANTED.items():
        found = {(one.promise, one.finding.partition(":")[0]) for one in await studio.audit(*statements)}

        assert planted in found
    assert await studio.audit() == []


def test_every_check_has_something_planted():
    assert {(promise, name) for promise, checks in CHECKS.items() for name in checks} <= set(PLANTED)
