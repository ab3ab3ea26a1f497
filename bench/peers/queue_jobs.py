"""Queue jobs of one peer: `python -m bench.peers.queue_jobs MODULE PREFIX COUNT`, in the peers' environment."""

import asyncio
import importlib
import inspect
import sys


def main() -> None:
    module, prefix, count = sys.argv[1:]
    queued = importlib.import_module(f"bench.peers.{module}").queue_jobs(prefix, int(count))
    if inspect.iscoroutine(queued):
        asyncio.run(queued)


if __name__ == "__main__":
    main()
