"""Programs of an application that run during a chaos run: their common code, and the producers."""

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import asyncpg

from tests.chaos.book import Book, Submitted
from tests.support.builders import PRICE
from workers.services.postgres import postgres_programs

GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a client whose connection broke between two of its messages
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
)
"""The connection is lost; whether the last statement was committed isn't known."""

BUSY_QUEUE = 250
"""Producers wait while so many jobs wait: the run is to be about faults, and not about a backlog."""


class GoneError(Exception):
    """The connection was lost in the middle."""


CUT_OFF = (GoneError, asyncio.CancelledError)
"""What was asked may have been done: the connection was lost, or the run ended, in the middle."""


@dataclass(slots=True)
class World:
    """Whom the programs work for: user -> its pictures."""

    pictures: dict[str, list[str]]
    quiet: frozenset[str] = frozenset()
    """Users whose jobs no canceller touches, so that a foreign transaction may lock them in any order."""
    apart: dict[str, list[str]] = field(default_factory=dict)
    """Users of one program each, and their pictures; no other program chooses them."""
    waiting: int = 0
    submitted: int = 0
    recent: list[str] = field(default_factory=list)
    """Jobs submitted lately, for those who look for one to change."""

    def busy_users(self) -> list[str]:
        """Return whom cancellers and deletions may meet."""
        return [user for user in self.pictures if user not in self.quiet]


def end_if_cancelled() -> None:
    """Let a task end whose cancellation met a lost connection: the rollback's error took its place."""
    if asyncio.current_task().cancelling():
        raise asyncio.CancelledError


class Program:
    """One connection, made anew when it is lost."""

    def __init__(self, name: str, url: str, book: Book, world: World, seed: int):
        self.name = name
        self.book, self.world = book, world
        self.random = random.Random(f"{seed}/{name}")
        self._url = url
        self._connection = None

    async def run(self) -> None:
        """Do one thing after the other until cancelled."""
        try:
            while True:
                with contextlib.suppress(GoneError):
                    await self.step()
                end_if_cancelled()
        finally:
            if self._connection is not None:
                self._connection.terminate()

    async def step(self) -> None:
        raise NotImplementedError

    async def until_told(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that has to be done, however often the connection is lost meanwhile."""
        while True:
            try:
                return await work()
            except GoneError:
                continue

    async def ask(self, work: Callable[[asyncpg.Connection], Awaitable]):
        """Run work on our connection.

        Raises:
            GoneError: the connection was lost; what was asked may have been committed.
            asyncpg.PostgresError: it was refused.
        """
        try:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(
                    self._url, timeout=5, command_timeout=60, server_settings={"application_name": "chaos"}
                )
            return await work(self._connection)
        except asyncpg.DeadlockDetectedError as error:
            self.book.deadlocks.append(f"{self.name}: {error} {error.detail}")
            raise
        except GONE as error:
            self.book.seen["connections lost"] += 1
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None
            await asyncio.sleep(0.2)
            raise GoneError from error

    def some_user(self) -> str:
        return self.random.choice(list(self.world.pictures))

    def some_tier(self) -> str:
        return self.random.choices(["FREE", "TIER_1K", "TIER_2K"], [10, 10, 1])[0]

    def new_id(self, prefix: str) -> str:
        return f"{prefix}{self.random.getrandbits(80):020x}"

    def note(self, *jobs: Submitted) -> None:
        """Write jobs down."""
        self.book.submitted.extend(jobs)
        self.world.submitted += sum(job.job_id not in self.world.recent for job in jobs)
        self.world.recent = [*self.world.recent, *(job.job_id for job in jobs)][-200:]


ROW = re.compile(r"INSERT 0 (\d+)")


class Producer(Program):
    """Submits jobs in every way there is; all producers together keep to a pace."""

    def __init__(self, *args, most: int, within_s: float):
        super().__init__(*args)
        self._most, self._within_s = most, within_s
        self._began_s = time.monotonic()

    async def turn(self) -> None:
        """Wait until another job is due: as many are as the time that has passed says."""
        while True:
            await asyncio.sleep(self.random.uniform(0, 0.4))
            share = min(1.0, (time.monotonic() - self._began_s) / self._within_s)
            if self.world.submitted < share * self._most and self.world.waiting < BUSY_QUEUE:
                return

    async def step(self) -> None:
        await self.turn()
        way = self.random.choices([self.insert_rows, self.submit_once, self.generate_once], [3, 3, 3])[0]
        try:
            await way()
        except (asyncpg.RaiseError, asyncpg.ForeignKeyViolationError, asyncpg.NoDataFoundError) as refused:
            self.book.seen[f"refused {refused.sqlstate}"] += 1  # too few tokens, or the user is gone
        except asyncpg.DeadlockDetectedError:
            pass  # it stands in the book

    async def insert_rows(self) -> None:
        """Insert several rows, of several users, in one statement; blends among them."""
        jobs, values = [], []
        for _ in range(self.random.randint(1, 8)):
            user = self.some_user()
            image, source = self.random.choice(self.world.pictures[user]), None
            if self.random.random() < 0.2:
                source = self.random.choice(self.world.pictures[user])
            tier = self.some_tier()
            jobs.append(Submitted(self.new_id("c"), user, image, is_certain=False))
            values.append((jobs[-1].job_id, image, user, tier, PRICE[tier], source))
        try:
            await self.ask(
                lambda connection: connection.execute(
                    """INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost",
                           "sourceImageId", "isBlend", status, "updatedAt")
                       SELECT id, image, owner, tier::public."EnhancementTier", cost, source, source IS NOT NULL,
                              'PENDING', now() AT TIME ZONE 'utc'
                       FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::integer[], $6::text[])
                           r (id, image, owner, tier, cost, source)""",
                    *zip(*values, strict=True),
                )
            )
        except CUT_OFF:
            self.note(*jobs)
            raise
        self.note(*(Submitted(job.job_id, job.user_id, job.image_id) for job in jobs))

    async def submit_once(self) -> None:
        """Submit with an idempotency key, and repeat it while answers are lost, sometimes also for no reason."""
        user = self.some_user()
        image, tier = self.random.choice(self.world.pictures[user]), self.some_tier()
        await self._with_key(
            user, image, "SELECT darkroom.submit_enhancement($1, $2, $3, idempotency_key => $4)", user, image, tier
        )

    async def generate_once(self) -> None:
        """Submit a picture from words, or a change of one, in the same way."""
        user, tier = self.some_user(), self.some_tier()
        if self.random.random() < 0.5:
            statement = "SELECT darkroom.submit_generation($1, 'GENERATE', $2, $3, idempotency_key => $4)"
            await self._with_key(user, None, statement, user, tier, "a cat in a hat")
        else:
            image = self.random.choice(self.world.pictures[user])
            key = f"users/{user}/originals/{image}.jpg"
            statement = """SELECT darkroom.submit_generation($1, 'MODIFY', $2, 'make it blue', $3,
                                                             idempotency_key => $4)"""
            await self._with_key(user, None, statement, user, tier, key)

    async def _with_key(self, user, image, statement, *values) -> None:
        key, answers = self.new_id("k"), self.random.choices([1, 2], [4, 1])[0]
        while answers:
            try:
                job_id = await self.ask(lambda connection: connection.fetchval(statement, *values, key))
            except asyncio.CancelledError:
                answers = 1  # and then the run ends: only an answer tells which job was made
            except GoneError:
                continue
            else:
                self.note(Submitted(job_id, user, image, key))
                answers -= 1


class PsqlProducer(Producer):
    """The same from a shell: psql, one process per statement."""

    async def step(self) -> None:
        await self.turn()
        user, count = self.some_user(), self.random.randint(1, 10)
        image, tier, prefix = self.random.choice(self.world.pictures[user]), self.some_tier(), self.new_id("s")
        jobs = [Submitted(f"{prefix}-{number}", user, image, is_certain=False) for number in range(count)]
        process = await asyncio.create_subprocess_exec(
            str(postgres_programs() / "psql"),
            *("-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self._url),
            *("-c", "\\echo started"),
            "-c",
            f"""INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status,
                    "updatedAt")
                SELECT '{prefix}-' || n, '{image}', '{user}', '{tier}', {PRICE[tier]}, 'PENDING',
                       now() AT TIME ZONE 'utc'
                FROM generate_series(0, {count - 1}) n""",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, errors = await process.communicate()
        except asyncio.CancelledError:
            self.note(*jobs)
            await process.wait()  # and no later than the audit
            raise
        if process.returncode == 0:
            jobs = [Submitted(job.job_id, job.user_id, job.image_id) for job in jobs]
        elif b"deadlock detected" in errors:
            self.book.deadlocks.append(f"psql: {errors.decode(errors='replace')}")
            jobs = []
        elif b"ERROR:" in errors:
            self.book.seen["refused by psql"] += 1
            jobs = []
        else:
            self.book.seen["connections lost"] += 1
        self.note(*jobs)
