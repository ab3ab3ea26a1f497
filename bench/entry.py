"""Entering: jobs submitted one by one by eight connections, and 10,000 in one statement, queued and charged.

The same INSERTs are measured with triggers off, in turn. Goals: 2,500 a second one by one; 10,000 within 0.6 s.

    .venv/bin/python -m bench.entry [--json] [--rounds 5]
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.cpu import Servers
from bench.figures import machine, median, options, show
from bench.ground import JOBS, Ground, ground, run

AT_ONCE = 10_000
ONE_BY_ONE = 4_000
CONNECTIONS = 8

ONE = """
INSERT INTO public.image_enhancement_jobs (id, "imageId", "userId", tier, "tokensCost", status, "updatedAt")
VALUES ($1, 'i' || $2::text, 'u' || $2::text, 'TIER_1K', 2, 'PENDING', darkroom.utc_now())
"""
ROLES = {"": "origin", "bare_": "replica"}
"""The prefix of a figure's name -> the role of its sessions; triggers of Darkroom fire in the first only."""


async def one_by_one(place: Ground, prefix: str, role: str) -> None:
    """Insert jobs of 100 users, one statement and transaction each."""
    numbers = iter(range(ONE_BY_ONE))

    async def lane() -> None:
        connection = await place.connect()
        await connection.execute(f"SET session_replication_role = {role}")
        insert = await connection.prepare(ONE)
        for number in numbers:
            await insert.fetch(f"{prefix}{number}", str(number % 100 + 1))
        await connection.close()

    await asyncio.gather(*(lane() for _ in range(CONNECTIONS)))


async def at_once(place: Ground, prefix: str, role: str) -> None:
    connection = await place.connect()
    await connection.execute(f"SET session_replication_role = {role}")
    await connection.execute(JOBS, prefix, AT_ONCE)
    await connection.close()


async def main() -> None:
    arguments = options(__doc__).parse_args()
    figures: dict[str, list[float]] = {}
    async with ground() as place:
        servers = await Servers.of(place)

        async def timed(name: str, work: Callable[[Ground, str, str], Awaitable[None]], jobs: int, number: int) -> None:
            for before, role in ROLES.items():
                began_s, cpu_s = time.perf_counter(), servers.read_s([])["postgres"]
                await work(place, f"{before}{name}{number}x", role)
                figures.setdefault(f"{before}{name}_s", []).append(time.perf_counter() - began_s)
                cpu_us = (servers.read_s([])["postgres"] - cpu_s) / jobs * 1e6
                figures.setdefault(f"{before}{name}_postgres_us_per_job", []).append(cpu_us)

        for number in range(arguments.rounds):
            await timed("one_by_one", one_by_one, ONE_BY_ONE, number)
            await timed("at_once", at_once, AT_ONCE, number)
        connection = await place.connect()
        queued = await connection.fetchval("SELECT count(*) FROM darkroom.job_queue")
        assert queued == arguments.rounds * (ONE_BY_ONE + AT_ONCE), f"{queued} jobs were queued"
        assert not await connection.fetch("SELECT * FROM darkroom.money_violations")
        await connection.close()
    medians = {name: median(values) for name, values in figures.items()}
    rates = {f"{before}one_by_one_per_s": round(ONE_BY_ONE / medians[f"{before}one_by_one_s"]) for before in ROLES}
    show(
        {"benchmark": "entry", "rounds": arguments.rounds, "connections": CONNECTIONS, "jobs_at_once": AT_ONCE}
        | rates
        | medians
        | {"machine": machine()},
        is_json=arguments.json,
    )


if __name__ == "__main__":
    run(main)
