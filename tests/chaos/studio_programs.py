"""Programs of the application `studio` in a chaos run: what producers and others do with generations."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import asyncpg

from tests.chaos.book import Book, Submitted
from tests.chaos.programs import GoneError, Program

USERS = tuple(f"s{number:02}" for number in range(14))
POOR_USERS = USERS[:2]
QUIET_USERS = USERS[2:6]
"""Whose generations nobody ends or deletes."""

FILES = (
    ("shirt", "product_image"),
    ("cup", "product_image"),
    ("model", "model_image"),
    ("face", "profile_image"),
    ("lost", "product_image"),
)
"""The files of each user, with their categories; the last has no object."""

MOST_DELETED_USERS = 3
BUSY_QUEUE = 250
PRICES = {"1K": 2, "2K": 5}

INSERT = """
INSERT INTO studio.generations (_id, "userId", status, prompt, parameters, "productImageFiles", "modelImageFiles",
                                "tokensUsed")
SELECT r ->> 'id', r ->> 'user', r ->> 'status', 'The shirt, at a market', r -> 'parameters',
       ARRAY(SELECT jsonb_array_elements_text(r -> 'products')), ARRAY(SELECT jsonb_array_elements_text(r -> 'models')),
       (r ->> 'tokens')::integer
FROM jsonb_array_elements($1::text::jsonb) r
"""


def note_refusal(book: Book, what: str, error: asyncpg.PostgresError) -> None:
    """Write down that the database refused something.

    Raises:
        asyncpg.PostgresError: it refused it for want of rights, which all of these programs have.
    """
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        raise error
    book.seen[f"{what} refused {error.sqlstate}"] += 1


@dataclass(slots=True)
class Recent:
    """The users who are there, and generations that were made lately, for whoever changes one."""

    users: list[str]
    generations: list[str] = field(default_factory=list)
    deleted_users: int = 0


class Producer(Program):
    """Inserts generations, so many statements a second."""

    def __init__(self, *args, recent: Recent, pause_s: float):
        super().__init__(*args)
        self.recent, self._pause_s = recent, pause_s

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 1.5) * self._pause_s)
        if self.world.waiting < BUSY_QUEUE:
            await self.make()

    async def make(self) -> None:
        raise NotImplementedError

    def row(self, user: str, status: str = "pending") -> dict:
        """Return a new generation as INSERT takes it."""
        size = self.random.choices(list(PRICES), [12, 1])[0]
        count = self.random.choices([1, 2, 3], [5, 3, 2])[0]
        parameters = {"size": size, "count": count}
        if self.random.random() < 0.3:
            parameters["aspect"] = self.random.choice(["1:1", "3:4", "3:4", "no aspect"])
        products = self.random.choices([[], ["shirt"], ["cup", "shirt"], ["lost"]], [6, 5, 3, 0.3])[0]
        models = ["model"] if products and self.random.random() < 0.5 else []
        return {
            "id": self.new_id("g"),
            "user": user,
            "status": status,
            "parameters": parameters,
            "products": [f"{user}-{name}" for name in products],
            "models": [f"{user}-{name}" for name in models],
            "tokens": count * PRICES[size],
        }

    async def insert(self, rows: Sequence[dict]) -> bool:
        """Insert rows in one statement, again while answers are lost; say whether they are there.

        A repetition has the same ids, as of a producer that isn't sure, and it is refused where the rows are there.
        """
        answers, is_repeated = self.random.choices([1, 2], [4, 1])[0], False
        while answers:
            try:
                await self.ask(lambda connection: connection.execute(INSERT, json.dumps(rows)))
            except asyncio.CancelledError:
                self.write_down(rows, is_certain=False)
                raise
            except GoneError:
                is_repeated = True
                continue
            except asyncpg.UniqueViolationError:
                self.book.seen["generations repeated"] += 1
            except asyncpg.PostgresError as refused:
                note_refusal(self.book, "generation", refused)
                if is_repeated:
                    self.write_down(rows, is_certain=False)  # its user may be gone meanwhile
                return False
            is_repeated = True
            answers -= 1
        self.write_down(rows)
        return True

    def write_down(self, rows: Sequence[dict], *, is_certain: bool = True) -> None:
        """Note that these were asked for; they are there if it is certain."""
        self.book.submitted += [
            Submitted(row["id"], row["user"], None, is_certain=is_certain, pictures=row["parameters"]["count"])
            for row in rows
        ]
        if is_certain:
            self.recent.generations = [*self.recent.generations, *(row["id"] for row in rows)][-80:]


class Customer(Producer):
    """Inserts one to four generations, of several users, in one statement; some statements are rolled back."""

    async def make(self) -> None:
        rows = [self.row(self.random.choice(self.recent.users)) for _ in range(self.random.randint(1, 4))]
        if self.random.random() < 0.9:
            await self.insert(rows)
            return

        async def insert_and_roll_back(connection):
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(INSERT, json.dumps(rows))
                await asyncio.sleep(self.random.uniform(0, 0.5))
            finally:
                if not connection.is_closed():
                    await transaction.rollback()

        try:
            await self.ask(insert_and_roll_back)
            self.book.seen["generations rolled back"] += len(rows)
        except asyncpg.PostgresError as refused:
            note_refusal(self.book, "generation", refused)


class Uploader(Producer):
    """Inserts a generation before its files are there, names them, and lets it go; sometimes it takes it back."""

    async def make(self) -> None:
        user = self.random.choice(self.recent.users)
        row = self.row(user, status="uploading")
        products, models = row["products"], row["models"]
        row["products"], row["models"] = [], []
        if not await self.insert([row]):
            return
        changes = [
            ('"productImageFiles" = $2, "modelImageFiles" = $3', products, models),
            ("status = 'pending'",),
        ]
        if self.random.random() < 0.3:
            changes += [("status = 'uploading'",), ("prompt = 'Another', \"modelImageFiles\" = '{}'",), changes[1]]
        for columns, *values in changes:
            await asyncio.sleep(self.random.uniform(0, 1.5))
            statement = f"UPDATE studio.generations SET {columns} WHERE _id = $1"
            if columns == "status = 'pending'":
                statement += " AND status = 'uploading'"
            await self._change(statement, row["id"], *values)

    async def _change(self, statement: str, *values: object) -> None:
        """Change a generation, again while answers are lost: it would wait for its producer for ever."""

        async def change() -> None:
            try:
                await self.ask(lambda connection: connection.execute(statement, *values))
                self.book.seen["uploads changed"] += 1
            except asyncpg.PostgresError as refused:
                note_refusal(self.book, "change of an upload", refused)  # it is claimed already

        await self.until_told(change)


class Changer(Program):
    """Changes unfinished generations as other programs do: blindly by id, by function, in long transactions."""

    def __init__(self, *args, recent: Recent):
        super().__init__(*args)
        self.recent = recent

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.3, 1.5))
        ways = [self.end, self.end_blindly, self.hold_generation, self.hold_user, self.write_wrongly]
        way = self.random.choices(ways, [4, 2, 2, 2, 1])[0]
        try:
            await way()
        except asyncpg.PostgresError as error:
            note_refusal(self.book, "change of a generation", error)

    async def _unfinished(self) -> str | None:
        """Return an unfinished generation that may be ended; rather one that runs."""
        return await self.ask(
            lambda connection: connection.fetchval(
                """SELECT _id FROM studio.generations
                   WHERE _id = ANY ($1) AND status IN ('uploading', 'pending', 'processing')
                     AND "userId" <> ALL ($2)
                   ORDER BY status = 'processing' DESC, random() LIMIT 1""",
                self.recent.generations,
                QUIET_USERS,
            )
        )

    async def end(self) -> None:
        if (generation := await self._unfinished()) is None:
            return
        label = self.random.choice(["cancelled", "cancelled", "failed", ""])
        if label:
            change = "UPDATE studio.generations SET status = $2, error = 'the customer left' WHERE _id = $1"
            await self.ask(lambda connection: connection.execute(change, generation, label))
        else:
            await self.ask(lambda connection: connection.execute("SELECT darkroom.cancel_job($1)", generation))
        self.book.seen["generations ended"] += 1

    async def end_blindly(self) -> None:
        """Write an end on several at once, whatever has become of them; most of them are finished."""
        some = self.random.sample(self.recent.generations, min(3, len(self.recent.generations)))
        label = self.random.choice(["cancelled", "failed"])
        await self.ask(
            lambda connection: connection.execute(
                'UPDATE studio.generations SET status = $2 WHERE _id = ANY ($1) AND "userId" <> ALL ($3)',
                some,
                label,
                QUIET_USERS,
            )
        )
        self.book.seen["generations ended blindly"] += 1

    async def write_wrongly(self) -> None:
        """Write what no program may: it is refused on a job that waits, and changes nothing of one that is over."""
        if self.recent.generations:
            generation = self.random.choice(self.recent.generations)
            change = "UPDATE studio.generations SET status = 'completed' WHERE _id = $1 AND status <> 'processing'"
            await self.ask(lambda connection: connection.execute(change, generation))

    async def hold_generation(self) -> None:
        """Lock a job, then who paid for it, as every program does."""
        if self.recent.generations:
            generation = self.random.choice(self.recent.generations)
            await self._hold(
                ("UPDATE studio.generations SET error = error WHERE _id = $1", generation),
                (
                    """UPDATE studio.users SET name = 'held'
                       WHERE _id = (SELECT "userId" FROM studio.generations WHERE _id = $1)""",
                    generation,
                ),
            )

    async def hold_user(self) -> None:
        await self._hold(("SELECT FROM studio.users WHERE _id = $1 FOR UPDATE", self.random.choice(self.recent.users)))

    async def _hold(self, *statements: tuple) -> None:
        pauses_s = self.random.uniform(0.3, 2) / len(statements)

        async def transact(connection):
            async with connection.transaction():
                for statement, *values in statements:
                    await connection.execute(statement, *values)
                    await asyncio.sleep(pauses_s)

        await self.ask(transact)
        self.book.seen["generations or users held"] += 1


class Deleter(Program):
    """Deletes generations in every state, and now and then a user with all that is theirs."""

    def __init__(self, *args, recent: Recent):
        super().__init__(*args)
        self.recent = recent

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(1, 4))
        way = self.random.choices([self.delete_generation, self.delete_user], [12, 1])[0]
        try:
            await way()
        except asyncpg.PostgresError as error:
            note_refusal(self.book, "deletion", error)

    async def delete_generation(self) -> None:
        is_completed = self.random.random() < 0.4
        generation = await self.ask(
            lambda connection: connection.fetchval(
                """SELECT _id FROM studio.generations
                   WHERE _id = ANY ($1) AND (status = 'completed') = $2 AND "userId" <> ALL ($3)
                   ORDER BY random() LIMIT 1""",
                self.recent.generations,
                is_completed,
                QUIET_USERS,
            )
        )
        if generation is None:
            return
        self.book.deleted.add(("job", generation))  # before: an answer may be lost, and the deed be done
        await self.ask(
            lambda connection: connection.execute("DELETE FROM studio.generations WHERE _id = $1", generation)
        )
        self.book.seen["generations deleted"] += 1

    async def delete_user(self) -> None:
        user = self.recent.users[-1]
        if user in QUIET_USERS or self.recent.deleted_users >= MOST_DELETED_USERS:
            return
        self.recent.users.remove(user)
        self.recent.deleted_users += 1
        self.book.deleted.add(("user", user))
        await asyncio.sleep(2)  # others are in the middle of something for this user, and would lock in another order

        async def delete() -> None:
            await self.ask(lambda connection: connection.execute("DELETE FROM studio.users WHERE _id = $1", user))

        await self.until_told(delete)
        self.book.seen["users of studio deleted"] += 1


class Purchaser(Program):
    """Changes balances as the application does, by a difference or by a value, and notes it in the same transaction."""

    def __init__(self, *args, recent: Recent):
        super().__init__(*args)
        self.recent = recent

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 2))
        user, amount = self.random.choice(self.recent.users), self.random.choice([4, 10, 10, -2])
        is_read_first = self.random.random() < 0.3

        async def change(connection):
            async with connection.transaction():
                if is_read_first:
                    before = await connection.fetchval(
                        'SELECT "tokenBalance" FROM studio.users WHERE _id = $1 FOR NO KEY UPDATE', user
                    )
                    if before is None:
                        return
                    await asyncio.sleep(self.random.uniform(0, 0.3))
                    statement, value = 'UPDATE studio.users SET "tokenBalance" = $2 WHERE _id = $1', before + amount
                else:
                    statement, value = (
                        'UPDATE studio.users SET "tokenBalance" = "tokenBalance" + $2::integer WHERE _id = $1',
                        amount,
                    )
                if await connection.execute(statement, user, value) == "UPDATE 1":
                    await connection.execute("INSERT INTO studio.purchases VALUES ($1, $2)", user, amount)

        try:
            await self.ask(change)
            self.book.seen["balances of studio changed"] += 1
        except asyncpg.PostgresError as error:
            note_refusal(self.book, "purchase of studio", error)  # it would be below zero
