"""One run: starts everything, lets programs work and makes faults, waits until the queue is empty, and audits."""

import asyncio
import contextlib
import hashlib
import io
import json
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path

import asyncpg
from PIL import Image

from pipelines.storage.backends import open_storage
from pipelines.storage.storage import Storage
from tests.chaos import added, conditions, evidence
from tests.chaos.added import AddedTables
from tests.chaos.auditor import audit
from tests.chaos.book import Book
from tests.chaos.faults import Faults
from tests.chaos.fleet import Fleet
from tests.chaos.other_programs import Buyer, Canceller, Dawdler, watch_caps, watch_queue
from tests.chaos.plan import Options, plan
from tests.chaos.programs import GONE, Producer, Program, PsqlProducer, World
from tests.chaos.report import Report
from tests.support.patience import slowness

USERS, PICTURES = 24, 4
QUIET_USERS = 4
PICTURE_PX = (96, 64)
OPENING_BALANCE = 60
PRODUCERS, CANCELLERS, DAWDLERS = 4, 2, 2
CANCELLED_SHARE = 0.15
"""Of all jobs, about so many are cancelled."""

CAP = 2
"""So many jobs of a user may run at a time; all users are of the same tier."""

STOP_S = 45.0
LOOK_S = 0.5


async def run(options: Options, folder: Path, *, postgres_settings=None) -> Report:
    """Run, audit, and end every process that was started, whatever happens."""
    further = added.load(options.tables)
    job_tables = [table for one in further for table in one.tables]
    fleet, book = Fleet(options, folder, added=further, postgres_settings=postgres_settings), Book()
    tasks: list[asyncio.Task] = []
    try:
        await fleet.open()
        world = await _make_world(fleet, further)
        await evidence.prepare(fleet.database_url, job_tables)
        await conditions.set_up(fleet.database_url)
        tasks.append(asyncio.create_task(fleet.watch_workers()))
        await _work(options, fleet, book, world, further, tasks)
        drained_s = await _drain(fleet, options.drain_s)
        await _settle(fleet)
        stuck = await fleet.stop_processes(STOP_S * slowness())
        for task in tasks:
            task.cancel()
        connection = await asyncpg.connect(fleet.database_url)
        try:
            await evidence.load(connection, book, fleet.count_path, job_tables)
            await connection.execute("ANALYZE")
            violations = await audit(connection, fleet.objects, further)
            return await Report.of(connection, options, book, violations, drained_s=drained_s, stuck=stuck)
        finally:
            await connection.close()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await fleet.close()


async def _work(
    options: Options,
    fleet: Fleet,
    book: Book,
    world: World,
    further: Sequence[AddedTables],
    tasks: list[asyncio.Task],
) -> None:
    """Let programs and faults at the fleet for as long as the options say."""

    as_application = conditions.as_application(fleet.database_url)

    def made(kind: type[Program], name: str, *, is_application: bool = False, **more) -> Program:
        url = as_application if is_application else fleet.database_url
        return kind(name, url, book, world, options.seed, **more)

    pace = {"most": options.most_jobs, "within_s": 0.95 * options.seconds}
    cancelling = {"pace_s": CANCELLERS / (CANCELLED_SHARE * options.most_jobs / options.seconds)}
    programs = [
        *(made(Producer, f"producer {number}", **pace) for number in range(PRODUCERS // 2)),
        *(made(Producer, f"application {number}", is_application=True, **pace) for number in range(PRODUCERS // 2)),
        made(PsqlProducer, "psql", is_application=True, **pace),
        *(made(Canceller, f"canceller {number}", **cancelling) for number in range(CANCELLERS)),
        *(made(Dawdler, f"dawdler {number}") for number in range(DAWDLERS)),
        made(Buyer, "buyer"),
        *(
            made(conditions.IsolatedProducer, f"{level} {number}", user=f"{level}{number}", level=level)
            for level in conditions.LEVELS
            for number in range(2)
        ),
        made(conditions.Restorer, "restorer"),
        made(conditions.Migrator, "migrator"),
        made(conditions.OldSnapshot, "old snapshot"),
    ]
    refused = made(conditions.RefusedProducer, "refused")
    rich = made(conditions.RichCanceller, "rich")
    programs += [refused, rich]
    for one in further:
        programs += one.programs(made, options.most_jobs / options.seconds)
    began_s = time.monotonic()
    running = [asyncio.create_task(program.run(), name=program.name) for program in programs]
    running.append(asyncio.create_task(watch_queue(made(Program, "watch"))))
    running.append(asyncio.create_task(watch_caps(made(Program, "caps"), CAP)))
    tasks += running
    faults = Faults(fleet, book)
    following = asyncio.create_task(faults.follow(plan(options), began_s))
    tasks.append(following)
    while time.monotonic() < began_s + options.seconds:
        _raise_failures(tasks)
        fleet.reap()
        _say(f"{time.monotonic() - began_s:5.0f} s  {world.submitted} jobs, {len(book.injected)} faults, "
             f"{world.waiting} wait")  # fmt: skip
        await asyncio.sleep(min(10.0, max(0.1, began_s + options.seconds - time.monotonic())))
    await following
    await faults.settle()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    await refused.until_told(refused.thaw)
    await rich.until_told(rich.spend_all)
    for one in further:
        await rich.until_told(lambda sql=one.at_end: rich.ask(lambda connection: connection.execute(sql)))


def _raise_failures(tasks: list[asyncio.Task]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()):
            raise RuntimeError(f"{task.get_name()} failed") from error


async def _drain(fleet: Fleet, timeout_s: float) -> float | None:
    """Wait until the queue is empty; return the seconds that it took, None if it isn't."""
    began_s = time.monotonic()
    while time.monotonic() < began_s + timeout_s:
        with contextlib.suppress(*GONE):
            connection = await asyncpg.connect(fleet.database_url, timeout=5)
            try:
                if not await connection.fetchval("SELECT count(*) FROM darkroom.job_queue"):
                    return time.monotonic() - began_s
            finally:
                connection.terminate()
        await asyncio.sleep(LOOK_S)
    return None


SETTLE = "SELECT count(darkroom.settle_refused_end(r.job_type, r.job_id)) FROM darkroom.refused_ends r"
"""What a scheduler does each hour."""


async def _settle(fleet: Fleet) -> None:
    """Write the labels and pay the refunds that the database refused while the run lasted."""
    connection = await asyncpg.connect(fleet.database_url)
    try:
        await connection.execute(SETTLE)
        await connection.execute("INSERT INTO chaos.repaired DEFAULT VALUES")
    finally:
        await connection.close()
    await fleet.run_cli("tokens", "audit", "--repair")


async def _make_world(fleet: Fleet, further: Sequence[AddedTables]) -> World:
    """Insert users with little money, and pictures that exist."""
    storage = open_storage(fleet.objects.as_uri())
    connection = await asyncpg.connect(fleet.database_url)
    names = [f"u{number:02}" for number in range(USERS)]
    pictures = {name: await _make_user(connection, storage, name, OPENING_BALANCE) for name in names}
    apart = {
        name: await _make_user(connection, storage, name, conditions.OPENING_BALANCE) for name in conditions.APART_USERS
    }
    for one in further:
        await one.set_up(connection, storage)
    await connection.execute("INSERT INTO darkroom.settings VALUES ('user_caps', $1)", json.dumps({"FREE": CAP}))
    await connection.close()
    await storage.aclose()
    return World(pictures, frozenset(names[:QUIET_USERS]), apart)


async def _make_user(connection: asyncpg.Connection, storage: Storage, user: str, balance: int) -> list[str]:
    """Insert a user with a balance and pictures; return the pictures' ids."""
    await connection.execute(
        'INSERT INTO public.users (id, email, "updatedAt") VALUES ($1, $2, darkroom.utc_now())',
        user,
        f"{user}@example.test",
    )
    await connection.execute(
        """INSERT INTO public.user_token_balances (id, "userId", balance, "updatedAt")
           VALUES ($1, $2, $3, darkroom.utc_now())""",
        f"b-{user}",
        user,
        balance,
    )
    pictures = [f"{user}i{number}" for number in range(PICTURES)]
    for image in pictures:
        key = f"users/{user}/originals/{image}.jpg"
        data = _picture(user)
        await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())
        await connection.execute(
            """INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key",
                   "originalWidth", "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
               VALUES ($1, $2, $1, 'https://pictures.test/x', $3, $4, $5, $6, 'jpeg', darkroom.utc_now())""",
            image,
            user,
            key,
            *PICTURE_PX,
            len(data),
        )
    return pictures


def _picture(user: str) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", PICTURE_PX, (zlib.crc32(user.encode()) % 256, 120, 60)).save(data, "JPEG")
    return data.getvalue()


def _say(line: str) -> None:
    sys.stderr.write(f"chaos: {line}\n")
    sys.stderr.flush()
