"""The application of the third table in a chaos run: `--tables tests.integration.third_table.orders`."""

import asyncio
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from PIL import Image

from pipelines.storage.storage import Storage
from tests.chaos.added import AddedTable, AddedTables
from tests.chaos.book import Submitted
from tests.chaos.programs import CUT_OFF, Program
from tests.integration.third_table.ddl import TABLES

CUSTOMERS = range(1, 13)
BUSY_CUSTOMERS = range(1, 9)
"""Whose orders other programs end and delete."""

CREDITS, FEW_CREDITS = 400, 10
POOR_CUSTOMERS = range(1, 3)
SHARE = 0.3
"""So many jobs of these tables there are to one of the others, and a quarter of them are gifts."""

BUSY_QUEUE = 250
PHOTO_PX = (90, 120)
PRICES = {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5}


@dataclass(slots=True)
class Recent:
    """Jobs that were made lately, for whoever changes one."""

    orders: list[str] = field(default_factory=list)
    gifts: list[str] = field(default_factory=list)


class Maker(Program):
    """Inserts rows, so many statements a second."""

    def __init__(self, *args, recent: Recent, pause_s: float):
        super().__init__(*args)
        self.recent, self._pause_s = recent, pause_s

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 1.5) * self._pause_s)
        if self.world.waiting < BUSY_QUEUE:
            await self.make()

    async def make(self) -> None:
        raise NotImplementedError

    async def insert(self, sql: str, columns: Sequence[Sequence[object]], jobs: list[Submitted]) -> bool:
        """Insert rows in one statement; say whether they are there."""
        try:
            await self.ask(lambda connection: connection.execute(sql, *columns))
        except CUT_OFF:
            self.book.submitted += [Submitted(one.job_id, one.user_id, None, is_certain=False) for one in jobs]
            raise
        except asyncpg.RaiseError as refused:
            self.book.seen[f"order refused {refused.sqlstate}"] += 1  # too few credits
            return False
        self.book.submitted += jobs
        return True


class Shop(Maker):
    """Inserts several orders, of several customers, in one statement: due, due later, and drafts that are let go."""

    async def make(self) -> None:
        jobs, rows = [], []
        for _ in range(self.random.randint(1, 6)):
            order, customer = self.random.getrandbits(62), self.random.choice(CUSTOMERS)
            size = self.random.choices(list(PRICES), [3, 10, 1])[0]
            due_s = self.random.choice([None, None, None, self.random.uniform(-5, 5)])
            due = None if due_s is None else datetime.now(UTC) + timedelta(seconds=due_s)
            state = self.random.choices(["new", "draft"], [4, 1])[0]
            rows.append((order, customer, photo_key(customer), size, PRICES[size], state, due))
            jobs.append(Submitted(str(order), str(customer), None))
        statement = """INSERT INTO public.frame_orders (id, customer, photo_key, size, price, state, due)
                       SELECT * FROM unnest($1::bigint[], $2::integer[], $3::text[], $4::text[], $5::integer[],
                                            $6::text[], $7::timestamptz[])"""
        if not await self.insert(statement, [*zip(*rows, strict=True)], jobs):
            return
        self.recent.orders = [*self.recent.orders, *(job.job_id for job in jobs)][-100:]
        if drafts := [row[0] for row in rows if row[5] == "draft"]:
            await asyncio.sleep(self.random.uniform(0, 3))
            await self.ask(
                lambda connection: connection.execute(
                    "UPDATE public.frame_orders SET state = 'new' WHERE id = ANY ($1) AND state = 'draft'", drafts
                )
            )
            self.book.seen["drafts let go"] += len(drafts)


class Giver(Maker):
    """Inserts gifts, for which nobody pays, beside rows that are no jobs."""

    async def make(self) -> None:
        gifts = [UUID(int=self.random.getrandbits(128), version=4) for _ in range(self.random.randint(1, 4))]
        kinds = [self.random.choice(["gift", "gift", "letter"]) for _ in gifts]
        jobs = [Submitted(str(one), "giver", None) for one, kind in zip(gifts, kinds, strict=True) if kind == "gift"]
        statement = """INSERT INTO public.gifts (gift, owner, kind)
                       SELECT r.gift, 'giver', r.kind FROM unnest($1::uuid[], $2::text[]) r (gift, kind)"""
        if await self.insert(statement, [gifts, kinds], jobs):
            self.recent.gifts = [*self.recent.gifts, *(job.job_id for job in jobs)][-40:]


class Changer(Program):
    """Changes unfinished jobs as other programs do: by function, blindly by id, by deleting, in long transactions."""

    def __init__(self, *args, recent: Recent):
        super().__init__(*args)
        self.recent = recent

    async def step(self) -> None:
        await asyncio.sleep(self.random.uniform(0.5, 2.5))
        ways = [self.end_order, self.end_gift, self.delete_order, self.hold_order, self.hold_customer]
        way = self.random.choices(ways, [5, 1, 1, 2, 2])[0]
        try:
            await way()
        except asyncpg.PostgresError as error:
            self.book.seen[f"change of an order refused {error.sqlstate}"] += 1

    async def _order(self, customers: range) -> int | None:
        return await self.ask(
            lambda connection: connection.fetchval(
                """SELECT id FROM public.frame_orders WHERE id = ANY ($1::text[]::bigint[])
                     AND state IN ('draft', 'new', 'again', 'working') AND customer BETWEEN $2 AND $3
                   ORDER BY state = 'working' DESC, random() LIMIT 1""",
                self.recent.orders,
                customers.start,
                customers.stop - 1,
            )
        )

    async def end_order(self) -> None:
        if (order := await self._order(BUSY_CUSTOMERS)) is None:
            return
        state = self.random.choice(["stopped", "stopped", "error", ""])
        if state:
            change = "UPDATE public.frame_orders SET state = $2 WHERE id = $1"
            await self.ask(lambda connection: connection.execute(change, order, state))
        else:
            await self.ask(lambda connection: connection.execute("SELECT darkroom.cancel_job($1)", str(order)))
        self.book.seen["orders ended"] += 1

    async def end_gift(self) -> None:
        if self.recent.gifts:
            gift = self.random.choice(self.recent.gifts)
            change = (
                "UPDATE public.gifts SET status = 'cancelled' WHERE gift = $1::text::uuid AND status <> 'completed'"
            )
            await self.ask(lambda connection: connection.execute(change, gift))

    async def delete_order(self) -> None:
        if (order := await self._order(BUSY_CUSTOMERS)) is not None:
            self.book.deleted.add(("job", str(order)))  # before: an answer may be lost, and the deed be done
            await self.ask(
                lambda connection: connection.execute("DELETE FROM public.frame_orders WHERE id = $1", order)
            )
            self.book.seen["orders deleted"] += 1

    async def hold_order(self) -> None:
        """Lock a job, then who paid for it, as every program does."""
        if (order := await self._order(CUSTOMERS)) is not None:
            await self._hold(
                ("UPDATE public.frame_orders SET reason = reason WHERE id = $1", order),
                (
                    """UPDATE public.customers SET credits = credits
                       WHERE id = (SELECT customer FROM public.frame_orders WHERE id = $1)""",
                    order,
                ),
            )

    async def hold_customer(self) -> None:
        await self._hold(("UPDATE public.customers SET credits = credits WHERE id = $1", self.random.choice(CUSTOMERS)))

    async def _hold(self, *statements: tuple) -> None:
        pauses_s = self.random.uniform(0.3, 2) / len(statements)

        async def transact(connection):
            async with connection.transaction():
                for statement, *values in statements:
                    await connection.execute(statement, *values)
                    await asyncio.sleep(pauses_s)

        await self.ask(transact)
        self.book.seen["orders or customers held"] += 1


def photo_key(customer: int) -> str:
    return f"users/{customer}/originals/photo.jpg"


async def set_up(connection: asyncpg.Connection, storage: Storage) -> None:
    for customer in CUSTOMERS:
        data = io.BytesIO()
        Image.new("RGB", PHOTO_PX, (17 * customer, 120, 60)).save(data, "JPEG")
        photo = data.getvalue()
        await storage.put(photo_key(customer), photo, "image/jpeg", hashlib.sha256(photo).hexdigest())
        credit = FEW_CREDITS if customer in POOR_CUSTOMERS else CREDITS
        await connection.execute("INSERT INTO public.customers VALUES ($1, $2)", customer, credit)


def programs(made: Callable[..., Program], others_per_s: float) -> Sequence[Program]:
    recent = Recent()
    orders_per_s, gifts_per_s = 0.75 * SHARE * others_per_s, 0.25 * SHARE * others_per_s
    shops, orders, gifts = 2, 3.5, 2.5 * 2 / 3  # how many, and what each makes at a time
    return [
        *(made(Shop, f"shop {one}", recent=recent, pause_s=shops * orders / orders_per_s) for one in range(shops)),
        made(Giver, "giver", recent=recent, pause_s=gifts / gifts_per_s),
        made(Changer, "changer", recent=recent),
    ]


STATES = {
    "draft": "PENDING",
    "new": "PENDING",
    "again": "PENDING",
    "working": "PROCESSING",
    "done": "COMPLETED",
    "error": "FAILED",
    "stopped": "CANCELLED",
}

ADDED = AddedTables(
    applications=("shop",),
    plugin="tests.integration.third_table.frames",
    ddl=TABLES,
    tables=(
        AddedTable(
            "public.frame_orders",
            "id",
            "state",
            STATES,
            stages={"frame": ("MEASURING", "GENERATING")},
            balances="SELECT id::text, credits::bigint FROM public.customers",
        ),
        AddedTable(
            "public.gifts",
            "gift",
            "status",
            {name.lower(): name for name in ("PENDING", "PROCESSING", "COMPLETED", "FAILED", "REFUNDED", "CANCELLED")},
            stages={"gift": ("GENERATING",)},
        ),
    ),
    set_up=set_up,
    programs=programs,
    at_end="UPDATE public.frame_orders SET state = 'new' WHERE state = 'draft'",
)
