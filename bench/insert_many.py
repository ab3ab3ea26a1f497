"""Time of inserting 10,000 jobs in one statement, with trigger and charge, and of the same INSERT without triggers.

Goal: under 2 s with trigger and charge.

    .venv/bin/python -m bench.insert_many
"""

import statistics
import time

from bench.ground import JOBS, ground, run

JOB_COUNT = 10_000
ROUNDS = 5


async def main() -> None:
    async with ground() as place:
        connection = await place.connect()
        with_s, without_s = [], []
        for number in range(ROUNDS):
            for name, times, role in (("on", with_s, "origin"), ("off", without_s, "replica")):
                await connection.execute(f"SET session_replication_role = {role}")
                began = time.perf_counter()
                await connection.execute(JOBS, f"{name}{number}x", JOB_COUNT)
                times.append(time.perf_counter() - began)
        assert not await connection.fetch("SELECT * FROM darkroom.money_violations")
        a, b = statistics.median(with_s), statistics.median(without_s)
        print(f"{JOB_COUNT} jobs in one statement, median of {ROUNDS}: queued and charged {a:.2f} s; bare {b:.2f} s")
        print(f"ratio {a / b:.1f}; slowest {max(with_s):.2f} s; {JOB_COUNT / a:,.0f} jobs/s")


if __name__ == "__main__":
    run(main)
