"""Runs of claimed jobs, put together as in a worker process, with a provider of the test's own."""

from pathlib import Path
from typing import Any

from config.masking import SecretMask
from models.database import Database
from models.queue.groups import GroupWriter
from pipelines.imaging.header import DecodeLimits
from pipelines.storage.backends import open_storage
from workers.running.record import Recorder
from workers.running.run import StageRunner
from workers.running.runner import Runner
from workers.running.stage_queues import StageQueues


def make_stages(
    database: Database,
    writer: GroupWriter,
    folder: Path,
    provider: Any,
    mask: SecretMask,
    kind: type[StageRunner] = StageRunner,
    stage_queues: StageQueues | None = None,
) -> StageRunner:
    """Return what runs stages without pixel children; every job may call one provider."""
    return kind(
        database=database,
        writer=writer,
        storage=open_storage(folder.as_uri()),
        pixels=None,  # type: ignore[arg-type]  # no stage of these tests draws
        provider_for=lambda _job, **_: provider,
        deadlines_s={},
        limits=DecodeLimits(),
        mask=mask,
        stage_queues=stage_queues,
    )


def make_runner(
    database: Database,
    folder: Path,
    provider: Any,
    *,
    secret: str | None = None,
    stage_queues: StageQueues | None = None,
) -> Runner:
    """Return what takes claims to their recorded ends."""
    mask = SecretMask([] if secret is None else [secret])
    writer = GroupWriter(database)
    stages = make_stages(database, writer, folder, provider, mask, stage_queues=stage_queues)
    return Runner(stages, Recorder(database, writer, mask))
