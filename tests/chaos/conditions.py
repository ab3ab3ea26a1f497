"""Conditions of the database in a run: high isolation levels, a role with few rights, refusals, others' rows."""

import asyncio
import dataclasses
import itertools
import time

import asyncpg

from config.postgres_url import parse_postgres_url
from tests.chaos.book import Submitted
from tests.chaos.programs import CUT_OFF, Program
from tests.support.builders import PRICE

ROLE = "application"
"""The role of the application's own programs: rights on its tables, and on the functions that were granted to it."""

LEVELS = ("repeatable_read", "serializable")

REFUSED_USER = "refused"
"""Whose rows the database refuses to change now and then."""

RICH_USER = "rich"
"""Whose balance stands at the largest integer now and then, so that nothing can be paid back."""

APART_USERS = (REFUSED_USER, RICH_USER, *(f"{level}{number}" for level in LEVELS for number in range(2)))
"""Users whom no other program chooses: what happens to their jobs is ours or their producer's doing."""

OPENING_BALANCE = 10_000
LARGEST_BALANCE = 2_147_483_647

SET_UP = f"""
GRANT USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};

-- A trigger of the application's own; while its table holds a row, it lets no job of that user change.
CREATE TABLE public.frozen_users ("userId" text PRIMARY KEY, sqlstate text NOT NULL);
CREATE FUNCTION public.refuse_frozen() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    code text := (SELECT f.sqlstate FROM public.frozen_users f WHERE f."userId" = NEW."userId");
BEGIN
    IF code IS NOT NULL THEN
        RAISE EXCEPTION 'user % is frozen', NEW."userId" USING ERRCODE = code;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_frozen BEFORE UPDATE ON public.image_enhancement_jobs
    FOR EACH ROW EXECUTE FUNCTION public.refuse_frozen();
"""

INSERT = """
    INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
    VALUES ($1, $2, $3, $4::text::public."EnhancementTier", $5, 'PENDING', now() AT TIME ZONE 'utc')
"""


async def set_up(database_url: str) -> None:
    """Give the application's role its rights, and make its own trigger."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(SET_UP)
    finally:
        await connection.close()


def as_application(database_url: str) -> str:
    """Return the URL by which the application's own programs connect."""
    return dataclasses.replace(parse_postgres_url(database_url), user=ROLE, password=None).text()


class IsolatedProducer(Program):
    """Inserts jobs of a user that nobody else works for, in transactions above READ COMMITTED.

    It shares no row with any other program, so a serialization failure is of Darkroom's making, and none is in order
    but where an earlier job of the same user is refunded at that moment: the balance is one row.
    """

    def __init__(self, *args, user: str, level: str):
        super().__init__(*args)
        self._user, self._level = user, level

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(2, 6))  # the four make a quarter of all jobs: the others keep to a pace
        if self.world.waiting >= 250:
            return
        tier = self.random.choice(["FREE", "TIER_1K"])
        image = self.random.choice(self.world.apart[self._user])
        job = Submitted(self.new_id("v"), self._user, image, is_certain=False)

        async def insert(connection):
            async with connection.transaction(isolation=self._level):
                await connection.fetchval("SELECT 1 FROM public.users LIMIT 1")
                await asyncio.sleep(self.random.uniform(0, 0.1))
                await connection.execute(INSERT, job.job_id, image, self._user, tier, PRICE[tier])

        began_s = time.time()
        try:
            await self.ask(insert)
        except CUT_OFF:
            self.note(job)
            raise
        except asyncpg.SerializationError as error:
            failure = (f"{self._level}: {error}", self._user, began_s, time.time())
            self.book.isolation_failures.append(failure)
        except asyncpg.RaiseError as refused:
            self.book.seen[f"refused {refused.sqlstate}"] += 1  # too few tokens
        else:
            self.book.seen[f"inserted in {self._level}"] += 1
            self.note(Submitted(job.job_id, job.user_id, job.image_id))


class RefusedProducer(Program):
    """Inserts jobs whose rows the database then refuses to change for a while, with one SQLSTATE after another."""

    SQLSTATES = ("23514", "P0001", "22003", "23505", "54000")

    def __init__(self, *args):
        super().__init__(*args)
        self._codes = itertools.cycle(self.SQLSTATES)

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(1, 3))
        image = self.random.choice(self.world.apart[REFUSED_USER])
        job = Submitted(self.new_id("f"), REFUSED_USER, image, is_certain=False)
        code = next(self._codes)

        async def freeze(connection):
            async with connection.transaction():
                await connection.execute(INSERT, job.job_id, image, REFUSED_USER, "TIER_1K", PRICE["TIER_1K"])
                await connection.execute(
                    "INSERT INTO public.frozen_users VALUES ($1, $2) ON CONFLICT DO NOTHING", REFUSED_USER, code
                )

        try:
            await self.ask(freeze)
        except CUT_OFF:
            self.note(job)
            raise
        except asyncpg.RaiseError as refused:
            self.book.seen[f"refused {refused.sqlstate}"] += 1
            return
        self.note(Submitted(job.job_id, job.user_id, job.image_id))
        self.book.seen["users frozen"] += 1
        await asyncio.sleep(self.random.uniform(1, 6))
        await self.thaw()

    async def thaw(self) -> None:
        """Let the rows change again."""
        await self.ask(lambda connection: connection.execute("DELETE FROM public.frozen_users"))


class RichCanceller(Program):
    """Cancels jobs of a user whose balance can't take the refund: each UPDATE must go through all the same."""

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(1, 4))
        image = self.random.choice(self.world.apart[RICH_USER])
        job = Submitted(self.new_id("r"), RICH_USER, image, is_certain=False)

        async def insert_and_fill(connection):
            async with connection.transaction():
                await connection.execute(INSERT, job.job_id, image, RICH_USER, "TIER_2K", PRICE["TIER_2K"])
                await self._set_balance(connection, LARGEST_BALANCE)

        try:
            await self.ask(insert_and_fill)
        except CUT_OFF:
            self.note(job)
            raise
        self.note(Submitted(job.job_id, job.user_id, job.image_id))
        try:
            await self.ask(
                lambda connection: connection.execute(
                    "UPDATE public.image_enhancement_jobs SET status = 'CANCELLED' WHERE id = $1", job.job_id
                )
            )
            self.book.seen["cancelled with a full balance"] += 1
        except asyncpg.PostgresError as error:
            self.book.refused_cancels.append(f"{error.sqlstate}: {error}")

    async def _set_balance(self, connection, balance: int) -> None:
        """Set the balance with its ledger row, as a purchase or a correction of the application's would."""
        before = await connection.fetchval(
            'SELECT balance FROM public.user_token_balances WHERE "userId" = $1 FOR NO KEY UPDATE', RICH_USER
        )
        if before == balance:
            return
        await connection.execute(
            """UPDATE public.user_token_balances SET balance = $2, "updatedAt" = now() AT TIME ZONE 'utc'
               WHERE "userId" = $1""",
            RICH_USER,
            balance,
        )
        await connection.execute(
            """INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
               VALUES ($1, $2, $3, 'EARN_ADMIN_ADJUSTMENT', $4)""",
            self.new_id("t"),
            RICH_USER,
            balance - before,
            balance,
        )

    async def spend_all(self) -> None:
        """Bring the balance down again, so that what is owed can be paid."""

        async def spend(connection):
            async with connection.transaction():
                await self._set_balance(connection, OPENING_BALANCE)

        await self.ask(spend)


class Restorer(Program):
    """Restores rows as a dump or an older worker left them: PROCESSING, with no queue row, and PENDING beside it."""

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(2, 6))
        user = self.random.choice(self.world.busy_users())
        image = self.random.choice(self.world.pictures[user])
        job = Submitted(self.new_id("o"), user, image, is_certain=False)
        self.book.restored.add(job.job_id)
        status = self.random.choice(["PENDING", "PROCESSING"])

        async def restore(connection):
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica")
                await connection.execute(
                    """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status,
                           "currentStage", "processingStartedAt", "createdAt", "updatedAt", "analysisResult")
                       SELECT $1, i.id, i."userId", 'FREE', 0, $3::text::public."JobStatus", 'CROPPING',
                              t.at, t.at, t.at, '{"foo": 1}'
                       FROM public.enhanced_images i,
                            (SELECT now() AT TIME ZONE 'utc' - interval '30 minutes' AS at) t
                       WHERE i.id = $2 FOR KEY SHARE OF i""",
                    job.job_id,
                    image,
                    status,
                )

        try:
            await self.ask(restore)
        finally:
            self.note(job)  # uncertain: the picture may be gone
        self.book.seen[f"restored as {status}"] += 1


class Migrator(Program):
    """The application changes its own tables while jobs run: columns and indexes come and go."""

    STATEMENTS = (
        'ALTER TABLE public.image_enhancement_jobs ADD COLUMN IF NOT EXISTS "newColumn" integer DEFAULT 7',
        'CREATE INDEX IF NOT EXISTS new_index ON public.image_enhancement_jobs ("newColumn")',
        "DROP INDEX IF EXISTS public.new_index",
        'ALTER TABLE public.image_enhancement_jobs DROP COLUMN IF EXISTS "newColumn"',
    )

    async def step(self) -> None:
        for statement in self.STATEMENTS:
            await asyncio.sleep(self.random.uniform(2, 5))
            try:
                await self.ask(lambda connection, sql=statement: self._migrate(connection, sql))
            except asyncpg.LockNotAvailableError:
                self.book.seen["migrations put off"] += 1
                return  # what follows needs what this one makes
            self.book.seen["migrations"] += 1

    async def _migrate(self, connection, statement: str) -> None:
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '500ms'")
            await connection.execute(statement)


class OldSnapshot(Program):
    """Keeps a snapshot open for seconds, so that nothing that was updated meanwhile can be cleaned up."""

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(3, 8))

        async def look(connection):
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.fetchval("SELECT count(*) FROM public.image_enhancement_jobs")
                await asyncio.sleep(self.random.uniform(5, 20))

        await self.ask(look)
        self.book.seen["old snapshots"] += 1
