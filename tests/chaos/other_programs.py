"""Other programs of a run: they cancel, buy tokens, hold transactions open, write statuses and delete rows."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import asyncpg

from tests.chaos.programs import GoneError, Program, end_if_cancelled

TABLES = ("image_enhancement_jobs", "mcp_generation_jobs")


class Canceller(Program):
    """Cancels a job now and then, by UPDATE or by function."""

    def __init__(self, *args, pace_s: float):
        super().__init__(*args)
        self._pace_s = pace_s

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0, 2) * self._pace_s)
        row = await self.ask(
            lambda connection: connection.fetchrow(
                """SELECT id, type FROM darkroom.jobs
                   WHERE id = ANY ($1) AND status IN ('PENDING', 'PROCESSING') AND "userId" = ANY ($2)
                   ORDER BY "currentStage" = 'GENERATING' DESC NULLS LAST, random() LIMIT 1""",
                self.world.recent,
                self.world.busy_users(),
            )
        )
        if row is None:
            return
        statement = "SELECT darkroom.cancel_job($1)"
        if self.random.random() < 0.5:
            table = TABLES[row["type"] in {"generate", "modify"}]
            statement = f"UPDATE public.{table} SET status = 'CANCELLED' WHERE id = $1"
        began_s = time.monotonic()
        try:
            await self.ask(lambda connection: connection.execute(statement, row["id"]))
        except asyncpg.PostgresError as error:
            self.book.seen[f"cancel refused {error.sqlstate}"] += 1
        else:
            self.book.cancels_s.append(time.monotonic() - began_s)


class Buyer(Program):
    """Buys tokens for whoever has few, as an application does: balance and ledger in one transaction."""

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0, 1))

        async def buy(connection):
            async with connection.transaction():
                poor = await connection.fetchval(
                    """SELECT u.id FROM public.users u JOIN public.user_token_balances b ON b."userId" = u.id
                       WHERE b.balance < 20 ORDER BY random() LIMIT 1 FOR KEY SHARE OF u SKIP LOCKED"""
                )  # the user before the balance, as whoever deletes users has it
                row = await connection.fetchrow(
                    """UPDATE public.user_token_balances b
                       SET balance = b.balance + 20, "updatedAt" = darkroom.utc_now()
                       WHERE b."userId" = $1 RETURNING b."userId", b.balance""",
                    poor,
                )
                if row is not None:
                    await connection.execute(
                        """INSERT INTO public.token_transactions (id, "userId", amount, type, "balanceAfter")
                           VALUES ($1, $2, 20, 'EARN_PURCHASE', $3)""",
                        self.new_id("t"),
                        row["userId"],
                        row["balance"],
                    )

        try:
            await self.ask(buy)
        except asyncpg.PostgresError as error:
            self.book.seen[f"purchase refused {error.sqlstate}"] += 1


class Dawdler(Program):
    """Another program of the application: transactions held open for seconds, then committed or rolled back.

    It locks as a careful program does (job, user, balance), and for users that
    no canceller touches also the other way round. Whoever it meets, it must
    never be the victim of a deadlock.
    """

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.1, 0.6))
        ways = [self.touch_job, self.hold_balance, self.job_then_balance, self.balance_then_job, self.end_job]
        way = self.random.choices([*ways, self.delete_image, self.delete_user], [5, 4, 4, 4, 3, 0.6, 0.15])[0]
        try:
            await way()
        except asyncpg.PostgresError as error:
            self.book.seen[f"dawdler refused {error.sqlstate}"] += 1

    async def _dawdle(self, *statements: tuple) -> None:
        """Run statements in one transaction, with pauses; commit most of the time."""
        pauses_s = self.random.uniform(0.5, 3) / len(statements)
        is_committed = self.random.random() < 0.7

        async def transact(connection):
            transaction = connection.transaction()
            await transaction.start()
            try:
                for statement, *values in statements:
                    await connection.execute(statement, *values)
                    await asyncio.sleep(pauses_s)
            except BaseException:
                if not connection.is_closed():
                    await transaction.rollback()
                raise
            await (transaction.commit() if is_committed else transaction.rollback())

        await self.ask(transact)
        self.book.seen["dawdling transactions"] += 1

    async def _job(self, users: list[str]) -> asyncpg.Record | None:
        """Return an unfinished job of some users.

        It is none that was restored as PROCESSING and isn't queued yet: whoever writes to such a row is taken for its
        worker for 450 s, the longest deadline of a stage, and by then the run is over.
        """
        return await self.ask(
            lambda connection: connection.fetchrow(
                """SELECT j.id, j.type, j."userId" FROM darkroom.jobs j
                   WHERE j.id = ANY ($1) AND j.status IN ('PENDING', 'PROCESSING') AND j."userId" = ANY ($2)
                     AND (j.status = 'PENDING' OR EXISTS (SELECT FROM darkroom.job_queue q WHERE q.job_id = j.id))
                   ORDER BY random() LIMIT 1""",
                self.world.recent,
                users,
            )
        )

    def _touch(self, row: asyncpg.Record) -> tuple:
        table = TABLES[row["type"] in {"generate", "modify"}]
        return f'UPDATE public.{table} SET "updatedAt" = darkroom.utc_now() WHERE id = $1', row["id"]

    def _hold(self, user: str) -> tuple:
        statement = 'UPDATE public.user_token_balances SET "updatedAt" = darkroom.utc_now() WHERE "userId" = $1'
        return statement, user

    async def touch_job(self) -> None:
        if row := await self._job(list(self.world.pictures)):
            await self._dawdle(self._touch(row))

    async def hold_balance(self) -> None:
        await self._dawdle(self._hold(self.some_user()))

    async def job_then_balance(self) -> None:
        if row := await self._job(self.world.busy_users()):
            await self._dawdle(self._touch(row), self._hold(row["userId"]))

    async def balance_then_job(self) -> None:
        if row := await self._job(list(self.world.quiet)):
            await self._dawdle(self._hold(row["userId"]), self._touch(row))

    async def end_job(self) -> None:
        """Write an end blindly, by id, as programs of the application do."""
        if row := await self._job(self.world.busy_users()):
            table = TABLES[row["type"] in {"generate", "modify"}]
            status = self.random.choice(["FAILED", "CANCELLED", "REFUNDED"])
            await self._dawdle((f"UPDATE public.{table} SET status = '{status}' WHERE id = $1", row["id"]))

    async def delete_image(self) -> None:
        user = self.some_user()
        if user in self.world.quiet or len(self.world.pictures[user]) < 3:
            return
        image = self.world.pictures[user].pop()
        await self._delete("image", "DELETE FROM public.enhanced_images WHERE id = $1", image)

    async def delete_user(self) -> None:
        user = self.some_user()
        if user in self.world.quiet or len(self.world.pictures) < 8:
            return
        del self.world.pictures[user]
        await asyncio.sleep(2)  # others are in the middle of something for this user, and would lock in another order
        await self._delete("user", "DELETE FROM public.users WHERE id = $1", user)

    async def _delete(self, kind: str, statement: str, name: str) -> None:
        self.book.deleted.add((kind, name))  # before: an answer may be lost, and the deed be done
        await self.ask(lambda connection: connection.execute(statement, name))
        self.book.seen[f"{kind}s deleted"] += 1


async def watch_queue(program: Program) -> None:
    """Keep the world's count of waiting jobs."""

    async def look() -> None:
        program.world.waiting = await program.ask(
            lambda connection: connection.fetchval("SELECT count(*) FROM darkroom.job_queue")
        )

    await _repeat(look, 0.3)


async def watch_caps(program: Program, cap: int) -> None:
    """Note the users of whom more jobs run than a cap allows."""

    async def look() -> None:
        rows = await program.ask(
            lambda connection: connection.fetch(
                """SELECT user_id, count(*) AS running FROM darkroom.job_queue WHERE status = 'processing'
                   GROUP BY 1 HAVING count(*) > $1""",
                cap,
            )
        )
        program.book.exceeded |= {f"{row['user_id']}: {row['running']} jobs run, and {cap} may" for row in rows}

    await _repeat(look, 0.05)


async def _repeat(work: Callable[[], Awaitable[None]], pause_s: float) -> None:
    while True:
        with contextlib.suppress(GoneError):
            await work()
        end_if_cancelled()
        await asyncio.sleep(pause_s)
