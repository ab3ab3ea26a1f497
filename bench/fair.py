"""The fair order in figures: shares of users, claims beside many waiting users, large statements, and albums.

shares  100 users with unequal backlogs: the lowest Jain index of any window of 1,000 claims, over the users who waited
        throughout it; and 30 users of weights 1, 2 and 4: how far the weights' shares are off. Goals: 0.98; 5 percent.
claims  the 95th percentile of a claim of 16 beside 1,000,000 waiting jobs of 10,000 users, to that beside 1,000.
        Goal: 2.
bulk    10,000 jobs of 1,000 users in one statement, charge included, with the same INSERT with triggers off in turn;
        and producers at SERIALIZABLE beside such statements, how many fail. Goals: 1.5 s; 0.
album   an album of 5,000 pictures in one commit, and how many jobs a second call adds. Goals: 3 s; 0.

.venv/bin/python -m bench.fair {shares,claims,bulk,album} [--json] [--rounds 5]
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID, uuid4

import asyncpg

from bench.claim import AT_ONCE, claim_some
from bench.figures import Figures, machine, median, options, percentile, show
from bench.ground import Ground, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from models.queue.claims import claim
from models.queue.leases import renew_lease

WINDOW = 1_000
TOKEN = 1_000_000
FEW, MANY = 1_000, 1_000_000
MANY_USERS = 10_000
CLAIMS = 200
BULK, BULK_USERS = 10_000, 1_000
PICTURES = 5_000
PRODUCERS = 4

USERS = """
INSERT INTO public.users (id, email, "updatedAt")
SELECT 'u' || n, 'u' || n, darkroom.utc_now() FROM generate_series($1::integer, $2::integer) n
"""
BALANCES = """
INSERT INTO public.user_token_balances (id, "userId", balance, tier, "updatedAt")
SELECT 'b' || n, 'u' || n, 100000000, ($3::text[])[n % cardinality($3::text[]) + 1]::public."SubscriptionTier",
       darkroom.utc_now()
FROM generate_series($1::integer, $2::integer) n
"""
IMAGES = """
INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
    "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
SELECT 'i' || n, 'u' || n, 'x', 'x', 'users/u' || n || '/originals/i' || n || '.jpg', 1, 1, 1, 'jpeg',
    darkroom.utc_now()
FROM generate_series($1::integer, $2::integer) n
"""
JOBS = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, 'i' || u, 'u' || u, 'TIER_1K', 2, 'PENDING', darkroom.utc_now()
FROM unnest($2::integer[]) WITH ORDINALITY e (u, n)
"""
WAITING_JOBS = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
SELECT $1 || n, 'i' || n % 100 + 1, 'u' || n % $3 + 1, 'FREE', 0, 'PENDING', darkroom.utc_now()
FROM generate_series(1, $2::integer) n
"""
WAITING_ROWS = f"""
INSERT INTO darkroom.job_queue (job_type, job_id, user_id, tier, queue, stage, position, max_attempts)
SELECT 'enhance', $1 || n, 'u' || n % $3 + 1, 'FREE', 'default', 'ANALYZING',
       darkroom.virtual_time() + n / $3 * {TOKEN}, 4
FROM generate_series(1, $2::integer) n
"""
ALBUM = """
INSERT INTO public.albums (id, "userId", name, "updatedAt") VALUES ($1, 'u1', $1, darkroom.utc_now())
"""
ALBUM_IMAGES = """
INSERT INTO public.enhanced_images (id, "userId", name, "originalUrl", "originalR2Key", "originalWidth",
    "originalHeight", "originalSizeBytes", "originalFormat", "updatedAt")
SELECT $1 || 'i' || n, 'u1', 'x', 'x', 'users/u1/originals/' || $1 || n || '.jpg', 1, 1, 1, 'jpeg', darkroom.utc_now()
FROM generate_series(1, $2::integer) n
"""
ALBUM_PLACES = """
INSERT INTO public.album_images (id, "albumId", "imageId", "sortOrder")
SELECT $1 || 'm' || n, $1, $1 || 'i' || n, n FROM generate_series(1, $2::integer) n
"""
SUBMIT_ALBUM = "SELECT darkroom.submit_album('u1', $1, 'TIER_1K')"


async def add_users(place: Ground, first: int, last: int, tiers: Sequence[str] = ("FREE",)) -> None:
    """Insert users with balances, whose tiers take turns, and a picture for each."""
    connection = await place.connect()
    await connection.execute(USERS, first, last)
    await connection.execute(BALANCES, first, last, list(tiers))
    await connection.execute(IMAGES, first, last)
    await connection.close()


async def worker_of(place: Ground) -> tuple[Database, UUID]:
    """Open a worker's session, and make its row."""
    database = Database(parse_postgres_url(place.services.database_url), most_connections=1, keeps_plans=True)
    await database.open()
    worker = uuid4()
    lease = partial(
        renew_lease, worker_id=worker, host="bench", pid=1, queues=["default"], lanes=AT_ONCE, lease_s=3_600
    )
    await database.run(lease)
    return database, worker


async def claimed_users(place: Ground, most: int) -> list[str]:
    """Claim so many jobs, 16 at a time; return their users in the order of the claims."""
    database, worker = await worker_of(place)
    users: list[str] = []
    while len(users) < most:
        claims = await database.run(lambda connection: claim(connection, worker, "default", AT_ONCE, {}))
        if not claims:
            break
        users += [one.user_id for one in claims]
    await database.close()
    return users[:most]


async def drop_jobs(place: Ground) -> None:
    """Delete all jobs without triggers, and the memory of whose turn it is."""
    connection = await place.connect()
    await connection.execute("TRUNCATE darkroom.job_queue, darkroom.turns, public.image_enhancement_jobs CASCADE")
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


def jain(shares: Sequence[int]) -> float:
    """Return Jain's index of fairness: 1 if all shares are equal, 1/n if one has everything."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


async def shares(place: Ground, _rounds: int) -> Figures:
    backlogs = {user: 60 + 3 * user for user in range(1, 101)}
    owners = [user for user, backlog in backlogs.items() for _ in range(backlog)]
    random.Random(1).shuffle(owners)
    connection = await place.connect()
    await connection.execute(JOBS, "s", owners)
    users = await claimed_users(place, len(owners))
    assert len(users) == len(owners), f"{len(users)} of {len(owners)} jobs were claimed"
    left = Counter({f"u{user}": backlog for user, backlog in backlogs.items()})
    indexes = []
    for begin in range(0, len(users) - WINDOW + 1, WINDOW):
        window = Counter(users[begin : begin + WINDOW])
        left -= window
        indexes.append(jain([window[user] for user in left]) if left else 1.0)
    await drop_jobs(place)

    weights = {"FREE": 1, "BASIC": 2, "STANDARD": 4}
    await add_users(place, 201, 230, tuple(weights))
    await connection.execute(JOBS, "w", [user for _ in range(200) for user in range(201, 231)])
    await connection.close()
    window = Counter(await claimed_users(place, 2_100))
    fair = {f"u{user}": list(weights.values())[user % 3] * 2_100 / 70 for user in range(201, 231)}
    off = max(abs(window[user] / share - 1) for user, share in fair.items())
    return {"jain_index_lowest": round(min(indexes), 4), "windows": len(indexes), "weights_off": round(off, 4)}


async def claims(place: Ground, _rounds: int) -> Figures:
    await add_users(place, 101, MANY_USERS)
    connection = await place.connect()
    await connection.execute("SET session_replication_role = replica")
    database, worker = await worker_of(place)
    took_ms: dict[int, list[float]] = {FEW: [], MANY: []}

    async def fill(name: str, waiting: int) -> None:
        for statement in (WAITING_JOBS, WAITING_ROWS):
            await connection.execute(statement, name, waiting, min(waiting, MANY_USERS), timeout=1200)
        await connection.execute("VACUUM ANALYZE", timeout=1200)

    async def measure(waiting: int) -> None:
        for _ in range(min(CLAIMS, waiting // 2 // AT_ONCE)):
            began_s = time.perf_counter()
            assert len(await claim_some(database, worker)) == AT_ONCE
            took_ms[waiting].append((time.perf_counter() - began_s) * 1000)

    for _ in range(10):  # the plans are made, and kept, while the queue is empty
        assert await claim_some(database, worker) == []
    for number in range(4):
        await fill(f"f{number}x", FEW)
        await measure(FEW)
        await drop_jobs(place)
    await fill("m", MANY)
    await measure(MANY)
    await connection.close()
    await database.close()
    p95 = {waiting: percentile(took, 95) for waiting, took in took_ms.items()}
    return {
        "claims_of": AT_ONCE,
        "few_p50_ms": median(took_ms[FEW]),
        "few_p95_ms": p95[FEW],
        "many_p50_ms": median(took_ms[MANY]),
        "many_p95_ms": p95[MANY],
        "many_to_few_p95": round(p95[MANY] / p95[FEW], 2),
    }


async def bulk(place: Ground, rounds: int) -> Figures:
    await add_users(place, 101, BULK_USERS + PRODUCERS)
    owners = [n % BULK_USERS + 1 for n in range(BULK)]
    took_s: dict[str, list[float]] = {"bulk_s": [], "bare_bulk_s": []}
    connection = await place.connect()
    for number in range(rounds):
        for name, role in (("bare_bulk_s", "replica"), ("bulk_s", "origin")):
            await connection.execute(f"SET session_replication_role = {role}")
            began_s = time.perf_counter()
            await connection.execute(JOBS, f"{name}{number}x", owners)
            took_s[name].append(time.perf_counter() - began_s)

    failed: Counter[str] = Counter()
    is_over = False

    async def produce(user: int) -> None:
        own = await place.connect()
        number = 0
        while not is_over:
            number += 1
            try:
                async with own.transaction(isolation="serializable"):
                    await own.execute(JOBS, f"p{user}x{number}x", [user])
                failed["submitted"] += 1
            except asyncpg.SerializationError:
                failed["failed"] += 1
        await own.close()

    producers = [asyncio.create_task(produce(BULK_USERS + 1 + number)) for number in range(PRODUCERS)]
    for number in range(rounds):
        await connection.execute(JOBS, f"beside{number}x", owners)
        await claimed_users(place, 10 * AT_ONCE)
    is_over = True
    await asyncio.gather(*producers)
    await connection.close()
    medians = {name: median(values) for name, values in took_s.items()}
    return {
        **medians,
        "jobs": BULK,
        "users": BULK_USERS,
        "serializable_submitted": failed["submitted"],
        "serializable_failed": failed["failed"],
    }


async def album(place: Ground, rounds: int) -> Figures:
    took_s, added = [], 0
    connection = await place.connect()
    for number in range(rounds):
        name = f"a{number}x"
        await connection.execute(ALBUM, name)
        await connection.execute(ALBUM_IMAGES, name, PICTURES)
        await connection.execute(ALBUM_PLACES, name, PICTURES)
        began_s = time.perf_counter()
        await connection.fetchval(SUBMIT_ALBUM, name)
        took_s.append(time.perf_counter() - began_s)
        before = await connection.fetchval("SELECT count(*) FROM darkroom.job_queue")
        assert before == PICTURES * (number + 1), f"{before} jobs were queued"
        await connection.fetchval(SUBMIT_ALBUM, name)
        added += await connection.fetchval("SELECT count(*) FROM darkroom.job_queue") - before
    await connection.close()
    return {"pictures": PICTURES, "album_s": median(took_s), "slowest_s": round(max(took_s), 3), "added_again": added}


FIGURES: dict[str, Callable[[Ground, int], Awaitable[Figures]]] = {
    "shares": shares,
    "claims": claims,
    "bulk": bulk,
    "album": album,
}


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("figure", choices=FIGURES)
    arguments = parser.parse_args()
    async with ground() as place:
        figures = await FIGURES[arguments.figure](place, arguments.rounds)
    show(
        {"benchmark": f"fair {arguments.figure}", "rounds": arguments.rounds} | figures | {"machine": machine()},
        is_json=arguments.json,
    )


if __name__ == "__main__":
    run(main)
