"""Statistics of queues: jobs, workers and pauses."""

from dataclasses import dataclass

from models.connections import Connection
from models.queue.pause_records import LastingPause, lasting_pauses
from models.queue.stats import LiveWorker, QueueCount, live_workers, queue_counts
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class QueueStats:
    """`queues` has a row for each queue and status with jobs in it, `workers` one for each live process.

    `pauses` are the present pauses.
    """

    queues: list[QueueCount]
    workers: list[LiveWorker]
    pauses: list[LastingPause]


async def queue_stats(runtime: Runtime) -> QueueStats:
    """Count the jobs in the queues, and return the live workers and the pauses."""

    async def read(connection: Connection) -> QueueStats:
        return QueueStats(
            await queue_counts(connection), await live_workers(connection), await lasting_pauses(connection)
        )

    return await runtime.database.run(read)
