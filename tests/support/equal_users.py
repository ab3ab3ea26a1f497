"""A database of `pictures`, `studio` and an operator's file, each of which has a user 1 and a user 2."""

from pathlib import Path

import asyncpg

from config.postgres_url import PostgresUrl
from config.tiers import PRICES_TOKENS
from models.applications import registry
from models.applications.application import Application
from models.database import Database
from models.schema.migrate import upgrade
from tests.support.builders import make_image
from tests.support.frames_file import FILE, TABLES

STUDIO = Path(__file__).parents[1] / "integration" / "studio" / "tables.sql"
USERS = """
INSERT INTO public.users (id, email, "updatedAt") SELECT n, n || '@example.test', darkroom.utc_now()
FROM unnest('{1,2}'::text[]) n;
INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
SELECT 'b' || n, n, 100, darkroom.utc_now() FROM unnest('{1,2}'::text[]) n;
INSERT INTO studio.users (_id, email, "tokenBalance") VALUES ('1', 'a@example.test', 100), ('2', 'b@example.test', 100);
INSERT INTO frames.customers (id, account) VALUES (1, '{"credits": 100}'), (2, '{"credits": 100}');
"""


async def make_equal_users(url: PostgresUrl, name: str, template: str, folder: Path) -> tuple[Application, ...]:
    """Make a database with these applications and users from one of `pictures`; return the applications."""
    connection = await asyncpg.connect(**url.asyncpg_arguments())
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    await connection.close()
    own = url.with_database(name)
    connection = await asyncpg.connect(**own.asyncpg_arguments())
    for schema, tables in (("studio", STUDIO.read_text()), ("frames", TABLES)):
        await connection.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}; {tables}; RESET search_path")
    path = folder / "app.toml"
    path.write_text(FILE)
    wanted = ("pictures", "studio@studio", f"{path}@frames")
    await upgrade(own.text(), mode="managed", prices=PRICES_TOKENS, applications=wanted)
    await connection.execute(USERS)
    await connection.close()
    return registry.applications()


async def submit(database: Database, application: str, number: int, user: str = "1") -> None:
    """Let a user submit so many jobs that cost 2 tokens each, in one statement.

    Jobs of user 1 have the ids p11, p12 and so on, of `studio` s11, s12 and so on, and of `frames` numbers from 1.
    """
    if application == "studio":
        await database.fetch(
            """INSERT INTO studio.generations (_id, "userId", prompt, parameters, "tokensUsed")
               SELECT 's' || $1 || n, $1, 'a cat', '{}', 2 FROM generate_series(1, $2) n""",
            user,
            number,
        )
    elif application == "frames":
        await database.fetch(
            """INSERT INTO frames.orders (customer_id, photo_key) SELECT $1::text::integer, 'a.jpg'
               FROM generate_series(1, $2)""",
            user,
            number,
        )
    else:
        await database.fetch(
            """INSERT INTO public.image_enhancement_jobs
                   (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
               SELECT 'p' || $2 || n, $1, $2, 'TIER_1K', 2, 'PENDING', darkroom.utc_now()
               FROM generate_series(1, $3) n""",
            await make_image(database, user),
            user,
            number,
        )
