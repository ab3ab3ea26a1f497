"""Overview of an installation: queues, workers, jobs that ended, pauses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from models.connections import Connection
from models.queue.counts import job_groups
from models.queue.pause_records import LastingPause, lasting_pauses
from models.queue.stats import LiveWorker, QueueCount, by_status, ended_of_last_day, live_workers
from models.schema.server import server_time
from workers.process.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Overview:
    """The state of an installation; `last_day` counts the jobs that ended in the last 24 hours, by status."""

    queues: Sequence[QueueCount]
    workers: Sequence[LiveWorker]
    last_day: Mapping[str, int]
    pauses: Sequence[LastingPause]


async def overview(runtime: Runtime) -> Overview:
    """Return the state of an installation."""

    async def read(connection: Connection) -> Overview:
        return Overview(
            by_status(await job_groups(connection), await server_time(connection)),
            await live_workers(connection),
            await ended_of_last_day(connection),
            await lasting_pauses(connection),
        )

    return await runtime.database.run(read)
