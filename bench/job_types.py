"""Drain of each job type through gate and storage, with a fake paid provider that answers at once.

`enhance` is analyzed, prompted and generated with two paid calls, and writes one object; `generate` and `modify` have
one stage and one paid call. All stages, the gate with its intents, and the storage are the real ones. One generation in
a hundred is refused by the provider, and its job refunded. Raw is six single-row UPDATEs a job for `enhance`, and three
for the others, on the same tables in the same round, without gate, storage or refunds. Goal: at least 1x raw each.

The objects of all rounds stay until the end: for some minutes after many files were removed, ext4 without a journal
takes several times as much CPU for each new file, as it passes over all their inodes.

    .venv/bin/python -m bench.job_types [--json] [--rounds 5] [--jobs 4000]
"""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cpu import Servers
from bench.drains import ENHANCEMENTS, GENERATED, PROCESSES, Drain, Measurement, Table, darkroom, emptied, fastest_raw
from bench.figures import Figures, machine, median, note, options, show
from bench.ground import MODIFICATIONS, Ground, ground, run
from bench.instant_worker import REFUSED_EVERY
from pipelines.imaging.encode import encode_jpeg
from pipelines.storage.backends import open_storage
from workers.process.supervisor import WorkerProcesses

USERS = 100
ENVIRONMENT = {"DARKROOM_REUSE_RESULTS": "false"}
"""Otherwise a user's second job of the same picture would get a copy of the first one's result."""


class InstantWorkers(WorkerProcesses):
    """Worker processes whose provider answers at once."""

    ENTRY_POINT = "bench.instant_worker:main"


@dataclass(frozen=True, slots=True)
class JobType:
    name: str
    table: Table


JOB_TYPES = (
    JobType("enhance", ENHANCEMENTS),
    JobType("generate", GENERATED),
    JobType("modify", Table(GENERATED.name, MODIFICATIONS, GENERATED.is_done, GENERATED.more)),
)


async def store_originals(place: Ground) -> None:
    storage = open_storage(place.services.storage_url)
    for number in range(1, USERS + 1):
        data = encode_jpeg(np.full((48, 64, 3), number, np.uint8))
        key = f"users/u{number}/originals/i{number}.jpg"
        await storage.put(key, data, "image/jpeg", hashlib.sha256(data).hexdigest())


async def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--jobs", type=int, default=4_000, help="jobs of each drain")
    arguments = parser.parse_args()
    count = arguments.jobs
    refused = range(max(0, count // REFUSED_EVERY - PROCESSES), count // REFUSED_EVERY + 1)
    drains: dict[str, list[tuple[Drain, Drain]]] = {one.name: [] for one in JOB_TYPES}
    with tempfile.TemporaryDirectory(prefix="dkb", dir="/tmp") as folder:
        for number in range(arguments.rounds):
            async with ground(Path(folder) / str(number)) as place:
                await store_originals(place)
                measurement = Measurement(place, await Servers.of(place))
                for one in JOB_TYPES:
                    name = f"{one.name[0]}{number}x"
                    raw = await fastest_raw(measurement, f"raw{name}", count, one.table)
                    await emptied(place)
                    ours = await darkroom(
                        measurement,
                        name,
                        count,
                        Path(folder),
                        table=one.table,
                        kind=InstantWorkers,
                        environment=ENVIRONMENT,
                        refunded=refused,
                    )
                    await emptied(place)
                    drains[one.name].append((raw, ours))
                    note(f"{number + 1}. {one.name:9} {raw.jobs_per_s:7,.0f} raw, {ours.jobs_per_s:7,.0f} darkroom")
    figures: Figures = {"benchmark": "job_types", "rounds": arguments.rounds, "jobs": count}
    for name, pairs in drains.items():
        for place_in_pair, system in enumerate(("raw", "darkroom")):
            each = [pair[place_in_pair] for pair in pairs]
            figures[f"{name}_{system}"] = median([drain.jobs_per_s for drain in each])
            figures[f"{name}_{system}_cpu_us_per_job"] = median([drain.cpu_us_per_job for drain in each])
        figures[f"{name}_darkroom_to_raw"] = median([ours.jobs_per_s / raw.jobs_per_s for raw, ours in pairs])
    show(figures | {"machine": machine()}, is_json=arguments.json)


if __name__ == "__main__":
    run(main)
