"""CPU time of PostgreSQL, a row, of the guard of a job's row: for a change of its status, and for any other change.

.venv/bin/python -m bench.guards
"""

import statistics

import psutil

from bench.ground import GENERATIONS, JOBS, ground, run

ROWS = 10_000
ROUNDS = 7
TABLES = {
    "image_enhancement_jobs": (JOBS, ()),
    "mcp_generation_jobs": (GENERATIONS, ("x",)),
}
CHANGES = {
    "a change of the status": "status = 'PROCESSING', \"updatedAt\" = darkroom.utc_now()",
    "an end": "status = 'COMPLETED', \"updatedAt\" = darkroom.utc_now()",
    "any other change": '"updatedAt" = darkroom.utc_now()',
}


async def main() -> None:
    async with ground() as place:
        connection = await place.connect()
        process = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))

        async def cost_us(sql: str) -> float:
            transaction = connection.transaction()
            await transaction.start()
            before = process.cpu_times()
            await connection.execute(sql, timeout=600)
            after = process.cpu_times()
            await transaction.rollback()
            return (after.user - before.user + after.system - before.system) * 1e6 / ROWS

        for table, (insert, rest) in TABLES.items():
            await connection.execute(insert, "g", ROWS, *rest)
            await connection.execute(f"VACUUM ANALYZE public.{table}")
            for name, change in CHANGES.items():
                if name == "an end":
                    await connection.execute(f"UPDATE public.{table} SET status = 'PROCESSING'")
                    await connection.execute(f"VACUUM FULL public.{table}")
                without_us, with_us = [], []
                for _ in range(ROUNDS):
                    for state, costs_us in (("DISABLE", without_us), ("ENABLE", with_us)):
                        await connection.execute(f"ALTER TABLE public.{table} {state} TRIGGER darkroom_guard_status")
                        costs_us.append(await cost_us(f"UPDATE public.{table} SET {change}"))
                guard_us = statistics.median(with_us) - statistics.median(without_us)
                print(
                    f"{table:24} {name:24} guard {guard_us:5.1f} us a row of {statistics.median(with_us):.0f}",
                    flush=True,
                )
        await connection.close()


if __name__ == "__main__":
    run(main)
