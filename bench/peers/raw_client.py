"""One client process of raw asyncpg: it updates rows by id, without queue, fence, ledger, history or notification.

    python -m bench.peers.raw_client PREFIX FIRST LAST CONNECTIONS TABLE

It writes "ready" once it is connected, starts when it reads a line, writes "done", and ends when its stdin is closed.
"""

import asyncio
import sys

import asyncpg

from bench.peers.steps import GENERATION_STEPS, IS_WITHOUT_TRIGGERS, STEPS, database_url, statement

try:
    from uvloop import run
except ImportError:
    from asyncio import run


async def main() -> None:
    prefix, first, last, count, table = sys.argv[1:]
    statements = [statement(step, table=table) for step in (STEPS if "enhance" in table else GENERATION_STEPS)]
    connections = [
        await asyncpg.connect(database_url(), server_settings=IS_WITHOUT_TRIGGERS) for _ in range(int(count))
    ]
    left = iter(range(int(first), int(last) + 1))

    async def lane(connection) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        for number in left:
            for update in statements:
                await connection.execute(update, f"{prefix}{number}")

    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    await asyncio.gather(*map(lane, connections))
    print("done", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    run(main())
