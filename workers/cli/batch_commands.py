"""The commands batches list, show, watch, cancel and retry."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from models.queue.batches import Batch
from workers.cli.failures import DONE, FAILED
from workers.cli.opening import run_with_runtime
from workers.cli.output import console, note, print_json
from workers.cli.parameters import Json, Limit, Reason
from workers.cli.progress import follow_jobs
from workers.cli.tables import Column, column, note_count, print_fields, print_table
from workers.operations.actions import os_user
from workers.operations.batches import (
    cancel_batch,
    count_batches,
    find_batch,
    get_batch,
    jobs_of_batch,
    list_batches,
    retry_batch,
)
from workers.operations.users import find_user
from workers.operations.watching import Look
from workers.presentation.values import count_of, fields_of
from workers.process.runtime import Runtime

BatchId = Annotated[str, typer.Argument(metavar="BATCH_ID", help="The id of a batch, or the beginning of one.")]


def list_(
    user: Annotated[
        str | None, typer.Option("--user", metavar="USER", help="Only batches of this user, given by e-mail or id.")
    ] = None,
    limit: Limit = 50,
    *,
    as_json: Json = False,
) -> int:
    """List batches, the newest first."""

    async def work(runtime: Runtime) -> int:
        user_id = None if user is None else (await find_user(runtime, user)).id
        found = await list_batches(runtime, user_id, limit=limit)
        if as_json:
            print_json(found)
            return DONE
        columns = [
            column("id", "batch"),
            column("label", "album"),
            column("tier"),
            Column("over", lambda batch: f"{batch.over:,} of {batch.total:,}", is_number=True),
            column("completed", is_number=True),
            Column("without success", lambda batch: batch.over - batch.completed, is_number=True),
            column("user_id", "user", is_wide=True),
            column("created_at", "created", is_wide=True),
        ]
        print_table(found, columns, empty="there are no batches; `darkroom album enhance ALBUM_ID` submits one")
        await note_count(len(found), limit, "batches", lambda: count_batches(runtime, user_id))
        return DONE

    return run_with_runtime(work, for_pictures=True)


def show(batch_id: BatchId, *, as_json: Json = False) -> int:
    """Show how the jobs of a batch are, and its jobs."""

    async def work(runtime: Runtime) -> int:
        batch = await find_batch(runtime, batch_id)
        jobs = list(await jobs_of_batch(runtime, batch.id))
        if as_json:
            print_json({**fields_of(batch), "job_ids": jobs})
        else:
            print_fields(fields_of(batch) | {"jobs": jobs})
        return DONE

    return run_with_runtime(work, for_pictures=True)


def watch(batch_id: BatchId, *, as_json: Json = False) -> int:
    """Follow a batch until all of its jobs are over.

    The exit code is 1 unless all of them end COMPLETED.
    """

    async def work(runtime: Runtime) -> int:
        batch = await follow_batch(runtime, await find_batch(runtime, batch_id), is_json=as_json)
        report(batch, is_json=as_json)
        return DONE if batch.completed == batch.total else FAILED

    return run_with_runtime(work, for_pictures=True)


def cancel(batch_id: BatchId, reason: Reason = None, *, as_json: Json = False) -> int:
    """Cancel the unfinished jobs of a batch. That refunds them."""

    async def work(runtime: Runtime) -> int:
        batch = await find_batch(runtime, batch_id)
        cancelled = await cancel_batch(runtime, batch.id, actor=os_user(), reason=reason)
        note(f"batch {batch.id}: {count_of(cancelled, 'job')} cancelled")
        report(await get_batch(runtime, batch.id), is_json=as_json)
        return DONE

    return run_with_runtime(work, for_pictures=True)


def retry(batch_id: BatchId, reason: Reason = None, *, as_json: Json = False) -> int:
    """Submit the jobs of a batch that ended without success again.

    They are a new batch. All of them are submitted and charged, or none. Pictures that are done or under way again are
    left out.
    """

    async def work(runtime: Runtime) -> int:
        old = await find_batch(runtime, batch_id)
        batch = await retry_batch(runtime, old.id, actor=os_user(), reason=reason)
        note(f"batch {old.id}: {count_of(batch.total, 'job')} submitted again as batch {batch.id}")
        if not batch.total:
            note("none of its jobs has ended without success whose picture isn't done or under way again")
        report(batch, is_json=as_json)
        return DONE

    return run_with_runtime(work, for_pictures=True)


async def follow_batch(
    runtime: Runtime, batch: Batch, *, is_json: bool, on_look: Callable[[Look], Awaitable[None]] | None = None
) -> Batch:
    """Show the progress of a batch's jobs until all are over; return the batch as it is then.

    Args:
        runtime: open.
        batch: the batch.
        is_json: whether the progress goes to stderr, because stdout gets JSON.
        on_look: awaited with each look, at least once a second.
    """
    labels = dict.fromkeys(await jobs_of_batch(runtime, batch.id), batch.label or str(batch.tier))
    if labels and batch.finished_at is None:
        screen = console(is_error=is_json)
        await follow_jobs(runtime, labels, screen, keeps_table=False, label_title="album", on_look=on_look)
    return await get_batch(runtime, batch.id)


def report(batch: Batch, *, is_json: bool) -> None:
    """Print a batch: as JSON, or as a line of how many of its jobs are in which status."""
    if is_json:
        print_json(batch)
        return
    counts = [
        f"{getattr(batch, name):,} {name}"
        for name in ("waiting", "running", "completed", "failed", "refunded", "cancelled")
        if getattr(batch, name)
    ]
    typer.echo(f"batch {batch.id}: {count_of(batch.total, 'job')}" + (f": {', '.join(counts)}" if counts else ""))
