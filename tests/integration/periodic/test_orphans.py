"""Objects that no row names: only Darkroom's own are removed, after a report, on both storages."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest

from models.history.artifacts import record_artifact
from models.history.objects import record_object
from models.periodic import orphans
from pipelines.errors import MissingObjectError
from pipelines.keys import enhanced_key, generated_key, input_key, modified_key, original_key
from pipelines.settings import Settings
from pipelines.storage.backends import open_storage
from pipelines.storage.storage import Storage
from tests.support.builders import (
    make_artifact,
    make_claim,
    make_generation,
    make_image,
    make_job,
    make_pipeline,
    make_user,
    new_id,
    set_status,
)
from tests.support.s3_servers import BUCKET, S3Server, moto_server
from workers.objects import recorded_storage
from workers.periodic.engine import PeriodicEngine
from workers.periodic.registry import periodic_tasks
from workers.periodic.tasks import collect_orphans

NOW = datetime(2027, 6, 15, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
DATA = b"ours"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Storage]:
    url = tmp_path.as_uri()
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("moto")
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/{new_id('o')}"
    opened = open_storage(url, "https://pictures.example/base")
    yield opened
    await opened.aclose()


@pytest.fixture
def file_storage(tmp_path: Path) -> Storage:
    """For what doesn't depend on the storage."""
    return open_storage(tmp_path.as_uri())


class Collector:
    """Runs the task as a scheduler's tick does."""

    def __init__(self, database, storage, **fields) -> None:
        settings = Settings(**fields)
        self._engine = PeriodicEngine(database, storage, settings, periodic_tasks(settings))

    async def run(self, at: datetime = NOW) -> dict[str, int]:
        return await self._engine.run_extra("collect-orphans", at)

    async def count(self) -> dict[str, int]:
        return await self._engine.count("collect-orphans", NOW)

    async def run_twice(self) -> dict[str, int]:
        """Report and then remove; return the second run's counts."""
        await self.run()
        return await self.run(LATER)


async def put_foreign(storage: Storage, key: str, data: bytes = b"theirs") -> str:
    """Store an object as another program does."""
    await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())
    return key


async def put_own(database, storage: Storage, key: str, *, job_type="enhance", job_id="gone", days: float = 9) -> str:
    """Store an object as Darkroom does, so many days before NOW."""
    await recorded_storage(storage, database, job_type=job_type, job_id=job_id).put(key, DATA, "image/jpeg", SHA)
    await database.fetch("UPDATE darkroom.objects SET written_at = $2 WHERE key = $1", key, NOW - timedelta(days=days))
    return key


async def is_there(storage: Storage, key: str) -> bool:
    try:
        await storage.head(key)
    except MissingObjectError:
        return False
    return True


async def own_keys(database) -> set[str]:
    return {row["key"] for row in await database.fetch("SELECT key FROM darkroom.objects")}


async def test_orphans_are_reported_first_and_removed_by_a_later_run(database, storage):
    user_id = await make_user(database)
    image_id = await make_image(database, user_id)
    job_id = await make_job(database, user_id=user_id, image_id=image_id)
    kept = {
        await put_own(database, storage, original_key(user_id, image_id, "jpg"), job_type="original", job_id=image_id),
        await put_own(database, storage, enhanced_key(user_id, image_id, job_id, SHA), job_id=job_id),  # under way
        await put_own(database, storage, original_key(user_id, "young", "jpg"), job_type="original", days=0.9),
    }
    orphan = await put_own(database, storage, enhanced_key(user_id, image_id, "gone", SHA))
    collector = Collector(database, storage)

    counted = await collector.count()
    first = await collector.run()
    again = await collector.run()
    between = await is_there(storage, orphan)
    second = await collector.run(LATER)

    assert (counted["orphans"], counted["orphan_bytes"]) == (1, len(DATA))
    assert (first["reported"], first["removed"], again["reported"], between) == (1, 0, 0, True)
    assert (second["removed"], second["removed_bytes"]) == (1, len(DATA))
    assert not await is_there(storage, orphan)
    assert [await is_there(storage, key) for key in kept] == [True, True, True]
    assert await own_keys(database) == kept
    (row,) = await database.fetch("SELECT key, removed_at FROM darkroom.orphans WHERE key = $1", orphan)
    assert row["removed_at"] == LATER


async def test_objects_of_others_stay_beside_each_kind_of_ours_and_after_their_row_is_gone(database, storage):
    user_id = await make_user(database)
    image_id = await make_image(database, user_id)
    sha = "f" * 64
    foreign = [
        original_key(user_id, image_id, "jpg"),
        enhanced_key(user_id, image_id, "job", sha),  # just as one of ours
        generated_key(user_id, "job", sha),
        modified_key(user_id, "job", sha),
        input_key(user_id, "job", "jpg"),
        f"users/{user_id}/avatar.png",
        f"users/{user_id}/merch/upload.png",
        f"users/{user_id}/originals/{image_id}-0123456789abcdef.jpg",
        "doctor/0123.bin",
        "theirs/photo.jpg",
    ]
    for key in foreign:
        await put_foreign(storage, key)
    ours = [
        await put_own(database, storage, make(user_id, "gone"))
        for make in (
            lambda user, job: enhanced_key(user, image_id, job, SHA),
            lambda user, job: generated_key(user, job, SHA),
            lambda user, job: modified_key(user, job, SHA),
            lambda user, job: original_key(user, job, "jpg"),
            lambda user, job: input_key(user, job, "jpg"),
            lambda _user, job: f"doctor/{job}.bin",
        )
    ]
    await database.fetch("DELETE FROM public.users WHERE id = $1", user_id)

    second = await Collector(database, storage).run_twice()
    await Collector(database, storage, orphans="delete").run_twice()

    assert second["removed"] == len(ours)
    assert [await is_there(storage, key) for key in ours] == [False] * len(ours)
    assert [await is_there(storage, key) for key in foreign] == [True] * len(foreign)


async def test_object_that_another_program_overwrote_stays(database, storage):
    key = await put_own(database, storage, enhanced_key("u", "i", "gone", SHA))
    await put_foreign(storage, key, b"another picture")

    second = await Collector(database, storage).run_twice()

    assert (second["removed"], second["overwritten"]) == (0, 1)
    assert await storage.get(key) == b"another picture"
    assert await own_keys(database) == set()


async def test_row_whose_object_never_came_is_forgotten(database, file_storage):
    await put_own(database, file_storage, key := enhanced_key("u", "i", "gone", SHA))
    await file_storage.delete(key)

    second = await Collector(database, file_storage).run_twice()

    assert (second["removed"], second["missing"]) == (0, 1)
    assert await own_keys(database) == set()


async def test_object_put_again_since_its_report_is_reported_anew(database, file_storage):
    key = await put_own(database, file_storage, enhanced_key("u", "i", "gone", SHA))
    collector = Collector(database, file_storage)
    await collector.run()
    await put_own(database, file_storage, key, days=8)

    second = await collector.run(LATER)
    third = await collector.run(LATER + timedelta(days=1))

    assert (second["reported"], second["removed"], third["removed"]) == (1, 0, 1)


async def test_report_of_an_object_that_is_named_again_is_taken_back(database, file_storage):
    user_id = await make_user(database)
    key = await put_own(database, file_storage, enhanced_key(user_id, "i", "gone", SHA))
    collector = Collector(database, file_storage)
    await collector.run()
    await database.fetch("UPDATE public.users SET image = $2 WHERE id = $1", user_id, file_storage.url(key))
    await collector.run(LATER)
    await database.fetch("UPDATE public.users SET image = NULL WHERE id = $1", user_id)

    third = await collector.run(LATER + timedelta(days=1))

    assert (third["reported"], third["removed"]) == (1, 0)
    assert await is_there(file_storage, key)


async def test_many_objects_are_gone_through_in_pages_each_once(database, file_storage, monkeypatch):
    monkeypatch.setattr(orphans.object_page, "__defaults__", (3,))
    monkeypatch.setattr(collect_orphans, "MOST_REMOVED", 2)
    keys = [await put_own(database, file_storage, enhanced_key("u", "i", f"j{number}", SHA)) for number in range(8)]

    first = await Collector(database, file_storage).run()
    second = await Collector(database, file_storage).run(LATER)

    assert (first["reported"], first["looked_at"]) == (8, 8)
    assert (second["reported"], second["removed"]) == (0, 8)
    assert [await is_there(file_storage, key) for key in keys] == [False] * 8


async def test_object_from_before_the_rows_is_ours_by_its_artifact(database, storage):
    claim = await make_claim(database)
    own, foreign = (enhanced_key("u", "i", claim.job_id, sha) for sha in (SHA, "f" * 64))
    artifact = replace(make_artifact(), key=own, sha256=SHA, size_bytes=len(DATA))
    await database.run(lambda connection: record_artifact(connection, claim, artifact))
    await database.fetch("UPDATE darkroom.artifacts SET created_at = $1", NOW - timedelta(days=9))
    await put_foreign(storage, own, DATA)
    await put_foreign(storage, foreign)
    unfinished = await Collector(database, storage).run_twice()
    await set_status(database, claim.job_id, "CANCELLED")

    second = await Collector(database, storage).run_twice()
    third = await Collector(database, storage).run(LATER + timedelta(days=1))

    assert (unfinished["reported"], unfinished["removed"]) == (0, 0)
    assert (second["removed"], third["looked_at"], third["reported"]) == (1, 0, 0)
    assert (await is_there(storage, own), await is_there(storage, foreign)) == (False, True)


TABLES = """
CREATE TABLE public.merch_order_items (id text PRIMARY KEY, "imageR2Key" text NOT NULL);
CREATE TABLE public.carts (id text PRIMARY KEY, uploads jsonb, items json);
CREATE TABLE public.gallery_items (id text PRIMARY KEY, link varchar(500), pictures text[]);
CREATE TABLE public."Audio Tracks" (id text PRIMARY KEY, "cover ""art"" file" text);
CREATE TABLE public.posts (id text PRIMARY KEY, body text);
CREATE DOMAIN public.address AS text;
CREATE DOMAIN public.addresses AS text[];
CREATE TYPE public.upload AS (size_bytes bigint, address text);
CREATE TABLE public.frames (id text, places public.addresses, upload public.upload, uploads public.upload[]);
CREATE TABLE public.prints (id text, place public.address, at date) PARTITION BY RANGE (at);
CREATE TABLE public.prints_2027 PARTITION OF public.prints FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
ALTER TABLE public.users ADD COLUMN banner text;
"""

NAMING = {
    "a paid order's key": "INSERT INTO public.merch_order_items VALUES ('1', $1)",
    "a cart's upload": """INSERT INTO public.carts
        VALUES ('1', jsonb_build_object('a', ARRAY[jsonb_build_object('k', $1::text)]))""",
    "a cart's item in JSON": "INSERT INTO public.carts VALUES ('2', NULL, json_build_array('r2://bucket/' || $1))",
    "a gallery item's URL": "INSERT INTO public.gallery_items VALUES ('1', 'https://a.example/' || $1 || '?v=2#top')",
    "a list": "INSERT INTO public.gallery_items VALUES ('2', NULL, ARRAY['x', '/' || $1])",
    "a picture's URL through a resizer": """INSERT INTO public.gallery_items VALUES ('3', 'https://a.example/_next/image?url='
        || replace(replace('https%3A//b.example/' || $1, '/', '%2F'), '=', '%3D') || '&w=640')""",
    "encoded twice": """INSERT INTO public.gallery_items VALUES ('4', '/go?to=%252Fimage%253Furl%253D'
        || replace(replace($1, '/', '%252f'), '=', '%253d'))""",
    "an odd name": """INSERT INTO public."Audio Tracks" VALUES ('1', $1)""",
    "text with a picture": "INSERT INTO public.posts VALUES ('1', 'See ![it](https://c.example/' || $1 || '), yes')",
    "text that ends with it": "INSERT INTO public.posts VALUES ('2', 'See https://c.example/' || $1 || '.')",
    "a domain in a partition": "INSERT INTO public.prints VALUES ('1', $1, '2027-02-02')",
    "an avatar": "UPDATE public.users SET image = 'https://pictures.example/base/' || $1",
    "a column added to a known table": "UPDATE public.users SET banner = $1",
    "another job's result": """UPDATE public.image_enhancement_jobs SET "enhancedR2Key" = $1""",
    "another job's URL": """UPDATE public.image_enhancement_jobs SET "enhancedUrl" = 'https://d.example/' || $1""",
    "an input": """UPDATE public.mcp_generation_jobs SET "inputImageUrl" = 'https://d.example/' || $1""",
    "a reference picture": """UPDATE public.enhancement_pipelines SET "promptConfig" = jsonb_build_object(
        'referenceImages', jsonb_build_array(jsonb_build_object('r2Key', $1::text)))""",
    "a webhook": """INSERT INTO public.merch_webhook_events (id, provider, "eventId", "eventType", payload)
        VALUES ('1', 'p', 'e', 't', jsonb_build_object('file', 'https://e.example/' || $1))""",
    "a list with a name of its own": "INSERT INTO public.frames (places) VALUES (ARRAY['x', $1::text])",
    "a field of a row": "INSERT INTO public.frames (upload) VALUES (ROW(1, $1::text)::public.upload)",
    "rows in a list": "INSERT INTO public.frames (uploads) VALUES (ARRAY[ROW(1, $1::text)::public.upload])",
    "a picture's words": """UPDATE public.enhanced_images SET description = 'see ![it](/' || $1::text || ')'""",
    "a ledger row": """INSERT INTO public.token_transactions
        (id, "userId", amount, type, source, "balanceAfter", metadata)
        SELECT 'print', u.id, 0, t.type, 'print', 0, jsonb_build_object('print', $1::text) FROM public.users u,
        (SELECT (enum_range(NULL::public."TokenTransactionType"))[1]) t (type) LIMIT 1""",
}


@pytest.mark.parametrize("of", ["ordinary", "a=2Fb|ü"])
async def test_what_any_column_names_stays_after_its_own_row_was_deleted(database, file_storage, of):
    user_id, image_id, job_id = await make_user(database), new_id("i"), new_id("j")
    await make_image(database, user_id)
    await make_job(database, user_id=user_id)
    await make_generation(database, user_id=user_id)
    await make_pipeline(database, user_id)
    await database.run(lambda connection: connection.execute(TABLES))
    keys = {}
    for number, (name, sql) in enumerate(NAMING.items()):
        key = enhanced_key(user_id, image_id, f"{of}{job_id}{number}", SHA)
        keys[await put_own(database, file_storage, key)] = name
        await database.run(lambda connection, sql=sql, key=key: connection.execute(sql, key))
    orphan = await put_own(database, file_storage, enhanced_key(user_id, image_id, job_id, SHA))

    second = await Collector(database, file_storage).run_twice()

    assert [name for key, name in keys.items() if not await is_there(file_storage, key)] == []
    assert second["removed"] == 1
    assert not await is_there(file_storage, orphan)


async def test_table_that_cannot_be_read_whole_keeps_every_object(database, file_storage, database_url):
    key = await put_own(database, file_storage, enhanced_key("u", "i", "gone", SHA))
    role = new_id("role")
    await database.run(
        lambda connection: connection.execute(f"""
            CREATE TABLE public.shop_items (id text, picture text);
            INSERT INTO public.shop_items VALUES ('1', '{key}');
            ALTER TABLE public.shop_items ENABLE ROW LEVEL SECURITY;
            CREATE POLICY nobody ON public.shop_items USING (false);
            CREATE ROLE {role};
            GRANT USAGE ON SCHEMA darkroom, public TO {role};
            GRANT ALL ON ALL TABLES IN SCHEMA darkroom, public TO {role};
            GRANT ALL ON ALL FUNCTIONS IN SCHEMA darkroom TO {role};
            GRANT ALL ON ALL SEQUENCES IN SCHEMA darkroom TO {role}""")
    )
    limited = await asyncpg.connect(database_url)
    try:
        await limited.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="shop_items"):
            async with limited.transaction():
                await collect_orphans.named(limited, [key])
    finally:
        await limited.close()
        await database.run(lambda connection: connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}"))


async def adopt_tables(database) -> None:
    """Make the tables another tool's, as far as the version table says."""
    await database.fetch("DELETE FROM darkroom.alembic_version WHERE version_num LIKE 'application%'")


@pytest.mark.parametrize(
    ("is_adopted", "orphans", "is_removed"),
    [(False, None, True), (False, "report", False), (True, None, False), (True, "delete", True)],
)
async def test_orphans_are_removed_by_default_only_where_we_made_the_tables(
    database, file_storage, is_adopted, orphans, is_removed
):
    if is_adopted:
        await adopt_tables(database)
    key = await put_own(database, file_storage, enhanced_key("u", "i", "gone", SHA))

    second = await Collector(database, file_storage, orphans=orphans).run_twice()

    assert (await is_there(file_storage, key), second["removed"]) == (not is_removed, int(is_removed))
    assert await database.fetchval("SELECT count(*) FROM darkroom.orphans") == 1


async def finished_modify(database, user_id: str, key: str, *, days: float = 31) -> str:
    job_id = await make_generation(database, user_id=user_id, kind="MODIFY")
    await database.fetch(
        """UPDATE public.mcp_generation_jobs SET "inputImageR2Key" = $2, "inputImageUrl" = 'https://p.example/' || $2
           WHERE id = $1""",
        job_id,
        key,
    )
    await database.fetch(
        """UPDATE public.mcp_generation_jobs SET status = 'CANCELLED', "updatedAt" = $2 WHERE id = $1""",
        job_id,
        (NOW - timedelta(days=days)).replace(tzinfo=None),
    )
    return job_id


async def test_our_input_goes_when_all_its_jobs_are_long_over_and_nothing_else_names_it(database, file_storage):
    user_id = await make_user(database)
    keys = {name: input_key(user_id, new_id(name), "jpg") for name in ("over", "young", "again", "order")}
    for key in keys.values():
        await put_own(database, file_storage, key, job_type="input", days=40)
        await finished_modify(database, user_id, key, days=29 if key == keys["young"] else 31)
    unfinished = await make_generation(database, user_id=user_id, kind="MODIFY")
    await database.fetch(
        """UPDATE public.mcp_generation_jobs SET "inputImageUrl" = $2 WHERE id = $1""",
        unfinished,
        f"https://p.example/{keys['again']}",
    )
    await database.fetch("UPDATE public.users SET image = $2 WHERE id = $1", user_id, keys["order"])

    second = await Collector(database, file_storage).run_twice()

    assert (second["temporary"], second["removed"]) == (1, 0)
    assert {name for name, key in keys.items() if await is_there(file_storage, key)} == {"young", "again", "order"}


@pytest.mark.parametrize("is_adopted", [False, True])
async def test_input_of_a_producer_goes_only_where_removal_was_set_by_hand(database, storage, is_adopted):
    if is_adopted:
        await adopt_tables(database)
    user_id = await make_user(database)
    key, unnamed = (input_key(user_id, new_id("i"), "jpg") for _ in range(2))
    for one in (key, unnamed):
        await put_foreign(storage, one)
    await finished_modify(database, user_id, key)

    by_default = await Collector(database, storage).run_twice()
    stayed = await is_there(storage, key)
    by_hand = await Collector(database, storage, orphans="delete").run_twice()

    assert (by_default["temporary"], stayed) == (0, True)
    assert by_hand["temporary"] == 1
    assert (await is_there(storage, key), await is_there(storage, unnamed)) == (False, True)


async def test_put_is_written_down_before_the_object_is_there(database, file_storage):
    seen: list[set[str]] = []

    class Watched(type(file_storage)):
        async def put(self, *_) -> None:
            seen.append(await own_keys(database))
            raise ConnectionError("the process died here")

    key = enhanced_key("u", "i", "j", SHA)
    dying = Watched(Path("/nowhere"))

    with pytest.raises(ConnectionError):
        await recorded_storage(dying, database, job_type="enhance", job_id="j").put(key, DATA, "image/jpeg", SHA)

    assert seen == [{key}]
    (row,) = await database.fetch("SELECT job_type, job_id, sha256, size_bytes FROM darkroom.objects")
    assert tuple(row) == ("enhance", "j", SHA, len(DATA))


async def test_row_is_committed_in_a_transaction_of_its_own(database):
    await database.commit(
        "record_object",
        lambda connection: record_object(connection, "k", job_type="enhance", job_id="j", sha256=SHA, size_bytes=4),
    )

    assert await own_keys(database) == {"k"}
