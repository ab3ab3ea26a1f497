"""Migrations that an application makes of its own tables, and jobs that run after each."""

from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.applications.pictures.tables import TABLES
from models.database import Database
from models.queue.transitions import Checkpoint, Completed, Failed, Released, record
from models.schema.migrations.adoption import REQUIRED_COLUMNS
from tests.support.builders import claim_jobs, make_generation, make_image, make_job, make_user, make_worker, set_status


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the application's that Darkroom reads; `enum` is the name of its type, if that is an enum."""

    table: str
    name: str
    enum: str | None
    wider: str | None


def columns() -> Iterator[Column]:
    """Name every column that Darkroom reads, with another type that it can work with, if there is one."""
    for table, names in REQUIRED_COLUMNS.items():
        for name in names.split():
            kind = TABLES[table].c[name].type
            enum = str(kind.name) if isinstance(kind, postgresql.ENUM) else None
            wider = next((other for one, other in WIDER if isinstance(kind, one)), None)
            yield Column(table, name, enum, None if enum else wider)


WIDER = (
    (sa.Text, "varchar(255)"),
    (sa.Integer, "bigint"),
    (sa.Double, "numeric"),
    (postgresql.TIMESTAMP, "timestamp(6)"),
)

LABELS = """
SELECT enumlabel FROM pg_enum JOIN pg_type t ON t.oid = enumtypid WHERE typname = $1 ORDER BY enumsortorder
"""
DEFAULTS = """
SELECT c.relname, a.attname, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND t.typname = $1 AND NOT a.attisdropped
"""


async def rebuild_enum(connection: asyncpg.Connection, name: str, *, also: str) -> None:
    """Change an enum as Prisma does: a new type in place of the old one, in all columns; `also` is a label to add."""
    labels = [row[0] for row in await connection.fetch(LABELS, name)]
    used = await connection.fetch(DEFAULTS, name)
    quoted = ", ".join(f"'{label}'" for label in (*labels, also))
    async with connection.transaction():
        await connection.execute(f'CREATE TYPE "{name}_new" AS ENUM ({quoted})')
        for table, column, default in used:
            if default is not None:
                await connection.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" DROP DEFAULT')
            value = f'("{column}"::text::"{name}_new")'
            await connection.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE "{name}_new" USING {value}')
        await connection.execute(f'ALTER TYPE "{name}" RENAME TO "{name}_old"')
        await connection.execute(f'ALTER TYPE "{name}_new" RENAME TO "{name}"')
        await connection.execute(f'DROP TYPE "{name}_old"')
        for table, column, default in used:
            if default is not None:
                await connection.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" SET DEFAULT {default}')


async def run_jobs(database: Database) -> list[str]:
    """Let jobs of both tables enter, run, fail, be cancelled and be read as programs do; return their labels."""
    user = await make_user(database, balance=100)
    image = await make_image(database, user)
    album, pipeline = f"album-{user}", f"pipeline-{user}"
    await database.fetch(
        """INSERT INTO public.enhancement_pipelines (id, "userId", name, visibility, "updatedAt")
           VALUES ($1, $2, 'p', 'PRIVATE', darkroom.utc_now())""",
        pipeline,
        user,
    )
    await database.fetch(
        """INSERT INTO public.albums (id, "userId", name, "pipelineId", "updatedAt")
           VALUES ($1, $2, 'a', $3, darkroom.utc_now())""",
        album,
        user,
        pipeline,
    )
    await database.fetch('INSERT INTO public.album_images (id, "albumId", "imageId") VALUES ($1, $1, $2)', album, image)
    jobs = [await make_job(database, user_id=user, image_id=image) for _ in range(4)]
    jobs += [await make_generation(database, user_id=user) for _ in range(2)]
    submit = "SELECT darkroom.submit_enhancement($1, $2, 'TIER_1K', idempotency_key => $1)"
    jobs.append(await database.fetchval(submit, user, image))
    jobs.append(await database.fetchval("SELECT darkroom.submit_generation($1, 'GENERATE', 'TIER_1K', 'a cat')", user))
    await set_status(database, jobs.pop(0), "CANCELLED")
    await database.fetchval("SELECT darkroom.cancel_job($1)", jobs.pop(0))
    worker = await make_worker(database, lease_s=600)
    claims = await claim_jobs(database, worker, most=100)
    assert {one.job_id for one in claims} >= set(jobs)
    for number, one in enumerate(claims):
        if one.stage == "ANALYZING":
            step = Checkpoint("ANALYZING", "CROPPING", 60, 5, {}, {})
            await database.run(lambda connection, one=one, step=step: record(connection, one, step))
        if number == 0:
            back = Released(one.stage)
            await database.run(lambda connection, one=one, back=back: record(connection, one, back))
            continue
        end = Completed("GENERATING", 1, {}) if number % 2 else Failed(one.stage, "no such picture", 1)
        await database.run(lambda connection, one=one, end=end: record(connection, one, end))
    (again,) = await claim_jobs(database, worker)
    await database.run(lambda connection: record(connection, again, Failed(again.stage, "late")))
    assert await database.fetch("SELECT * FROM darkroom.money_violations") == []
    await database.fetch("SELECT * FROM darkroom.adopt()")
    await database.fetchval("SELECT darkroom.regenerate($1)", user)
    await database.fetch("SELECT * FROM darkroom.renew_chunk(darkroom.utc_now(), '', 10)")
    await database.fetch("SELECT darkroom.roll_up_usage(current_date)")
    await database.fetch("UPDATE public.users SET id = $2 WHERE id = $1", user, f"{user}b")
    rows = await database.fetch('SELECT status FROM darkroom.jobs WHERE "userId" = $1 ORDER BY id', f"{user}b")
    return sorted(row["status"] for row in rows)
