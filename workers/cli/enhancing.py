"""The work of `darkroom enhance`, after its arguments were checked: read, submit, watch, write, report."""

import asyncio
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from models.money.users import User
from models.queue.pipelines import default_tier
from models.queue.progress import JobProgress
from models.queue.submission import Enhancement
from pipelines.settings import Settings
from workers.cli.batches import Failed, Submitted, announce, note_failures
from workers.cli.failures import DONE, FAILED
from workers.cli.leaving import finished
from workers.cli.opening import run_with_runtime
from workers.cli.output import console, note, print_json
from workers.cli.own_worker import STARTS, OwnWorker
from workers.cli.progress import MANY, follow_jobs
from workers.cli.results import write_new
from workers.cli.tables import Column, print_table
from workers.operations.errors import OperationError
from workers.operations.ids import whole_id
from workers.operations.jobs import get_jobs, tokens_moved
from workers.operations.users import Payer, payer_of, require_user
from workers.presentation.values import count_of, duration
from workers.process.runtime import Runtime
from workers.submission import Picture, check_picture, new_id, read_result, store_picture, submit_picture


@dataclass(frozen=True, slots=True)
class Request:
    """The checked arguments of the command."""

    paths: tuple[Path, ...]
    tier: str | None
    pipeline_id: str | None
    pipeline_token: str | None
    blend: Path | None
    out: Path | None
    user: str | None
    run_at: datetime | timedelta | None
    is_waiting: bool
    is_json: bool


@dataclass(slots=True)
class _Item:
    """One picture of the command. `reason` is why it can't be submitted or has no result."""

    path: Path
    job_id: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    elapsed_s: float | None = None
    output: Path | None = None
    reason: str | None = None


def run(request: Request) -> int:
    """Enhance the pictures of a request; return the exit code.

    Raises:
        OperationError: no picture could be submitted.
    """
    return run_with_runtime(lambda runtime: _Enhancing(request, runtime).run(), submits=True, for_pictures=True)


class _Enhancing:
    def __init__(self, request: Request, runtime: Runtime) -> None:
        self._request = request
        self._runtime = runtime
        self._items = [_Item(path) for path in request.paths]
        self._is_many = len(self._items) > MANY
        self._began_s = time.monotonic()
        self._payer: Payer | None = None
        self._has_workers = False  # others than this command's own, which ends with it

    async def run(self) -> int:
        settings = self._runtime.settings
        blend = None if self._request.blend is None else read_picture(self._request.blend, settings)
        for item in self._items:
            try:
                read_picture(
                    item.path, settings
                )  # and again when its turn comes: a hundred needn't be in memory at once
            except OperationError as error:
                self._refuse(item, str(error))
        async with OwnWorker(self._runtime) as own_worker:
            if any(item.reason is None for item in self._items):
                with ExitStack() as left:
                    left.callback(self._note_left, own_worker)  # the command may end in any way: these jobs are charged
                    await self._work(blend, own_worker)
                    left.pop_all()
            if self._request.is_json:
                print_json([self._json(item) for item in self._items])
            else:
                await self._print()  # printed before this command's worker is stopped, which takes some time
        return FAILED if any(item.reason for item in self._items) else DONE

    async def _work(self, blend: Picture | None, own_worker: OwnWorker) -> None:
        tier, pipeline_id = self._request.tier, self._request.pipeline_id
        if pipeline_id is not None:
            pipeline_id = await whole_id(self._runtime, "pipeline", pipeline_id)
        if tier is None:
            tier = await self._runtime.database.run(lambda connection: default_tier(connection, pipeline_id))
        count = sum(1 for item in self._items if not item.reason)
        needed = self._runtime.settings.prices[tier] * count
        user = await require_user(self._runtime, self._request.user, tokens_needed=needed)
        self._payer = await payer_of(self._runtime, user)
        announce(count, "picture", tier, needed, self._payer, is_waiting=self._request.is_waiting)
        if self._is_many and count < len(self._items):
            note(f"{len(self._items) - count:,} others can't be used; the summary says why")
        self._has_workers = await own_worker.has_others()
        if self._request.is_waiting and not self._has_workers:
            await own_worker.start_if_needed()  # first: it comes up while pictures are stored
        await self._submit(user, tier, pipeline_id, blend)
        if self._request.is_waiting:
            await self._follow(own_worker)
            await self._fetch()

    def _note_left(self, own_worker: OwnWorker) -> None:
        if (submitted := self._submitted()) is not None:
            unsubmitted = [item.path.name for item in self._items if item.job_id is None and item.reason is None]
            submitted.note_left(unsubmitted, has_workers=self._has_workers and not own_worker.is_started)

    def _submitted(self) -> Submitted | None:
        """Return the jobs that this command has submitted so far; None before the first."""
        if self._payer is None:
            return None
        ids = [item.job_id for item in self._items if item.job_id is not None]
        return Submitted(ids, self._payer.name, self._payer.at, self._request.out)

    async def _submit(self, user: User, tier: str, pipeline_id: str | None, blend: Picture | None) -> None:
        source_id = None if blend is None else await store_picture(self._runtime, user.id, blend)
        for item in self._items:
            if item.reason is None:
                asked = Enhancement(
                    *(user.id, new_id(), tier, pipeline_id),
                    source_image_id=source_id,
                    pipeline_token=self._request.pipeline_token,
                    run_at=self._request.run_at,
                )
                await finished(self._submit_one(item, asked))  # a job that is charged has to be named
        await self._read_rows()

    async def _submit_one(self, item: _Item, asked: Enhancement) -> None:
        try:
            picture = read_picture(item.path, self._runtime.settings)
            item.job_id = await submit_picture(self._runtime, picture, asked)
        except OperationError as error:
            self._refuse(item, str(error))

    async def _follow(self, own_worker: OwnWorker) -> None:
        labels = {item.job_id: item.path.name for item in self._items if item.job_id is not None}
        if not labels:
            return
        screen = console(is_error=self._request.is_json)
        progress = await follow_jobs(
            self._runtime,
            labels,
            screen,
            keeps_table=False,
            on_look=lambda _: own_worker.start_if_needed(),
            without_worker=STARTS,
        )
        await self._read_rows()
        by_id = {one.job_id: one for one in progress}
        for item in self._items:
            if item.job_id is not None:
                self._note_end(item, by_id[item.job_id])

    @staticmethod
    def _note_end(item: _Item, end: JobProgress) -> None:
        item.elapsed_s = end.elapsed_s
        if end.status != "COMPLETED":
            item.reason = end.error or f"it ended {end.status or 'with its row deleted'}"

    async def _read_rows(self) -> None:
        ids = [item.job_id for item in self._items if item.job_id is not None]
        rows = {job.id: job.columns for job in await get_jobs(self._runtime, ids)}
        for item in self._items:
            item.row = rows.get(item.job_id or "", item.row)

    async def _fetch(self) -> None:
        """Write every result into the folder of --out."""
        folder = self._request.out
        if folder is None:
            return
        for item in self._items:
            key = item.row.get("enhancedR2Key")
            if item.reason is not None or key is None:
                continue
            try:
                data = await read_result(self._runtime, key)
                item.output = await asyncio.to_thread(write_new, folder, item.path.stem, data)
            except OperationError as error:
                item.reason = str(error)
            except OSError as error:
                item.reason = f"it can't be written to {folder}: {error.strerror}"

    def _refuse(self, item: _Item, reason: str) -> None:
        item.reason = reason
        if not self._is_many:
            note(f"darkroom: {item.path}: {reason}")

    @staticmethod
    def _json(item: _Item) -> dict[str, Any]:
        """Return a job's row by its table's column names; for a picture without a job only `errorMessage`."""
        row: Mapping[str, Any] = item.row or {"errorMessage": item.reason}
        return {"input": str(item.path), "output": item.output, **row}

    async def _print(self) -> None:
        submitted = self._submitted()
        if self._is_many:
            await self._print_summary(submitted)
        elif submitted is not None and submitted.ids:
            self._print_each(submitted)
        if submitted is not None and not self._request.is_waiting:
            submitted.note_submitted(has_workers=self._has_workers)
        elif submitted is not None and self._request.out is None:
            submitted.note_results([item.job_id for item in self._items if item.job_id and _is_completed(item)])

    async def _print_summary(self, submitted: Submitted | None) -> None:
        """Print how many pictures have a result and how many have none, what was paid, and each error once."""
        failed = [
            Failed(item.path.name, item.job_id, item.reason, has_result=_is_completed(item))
            for item in self._items
            if item.reason is not None
        ]
        good = len(self._items) - len(failed)
        took = duration(time.monotonic() - self._began_s)
        verb = "done" if self._request.is_waiting else "submitted"
        parts = [f"{count_of(len(self._items), 'picture')}: {good:,} {verb}, {len(failed):,} failed, in {took}"]
        if submitted is not None:
            charged, refunded = await tokens_moved(self._runtime, submitted.ids)
            parts.append(f"{count_of(charged, 'token')} charged, {refunded:,} refunded")
        sys.stdout.write("; ".join(parts) + "\n")
        if self._request.out is not None and (written := sum(item.output is not None for item in self._items)):
            sys.stdout.write(f"{count_of(written, 'result')} in {self._request.out}\n")
        sys.stdout.flush()
        note_failures(failed, submitted)

    def _print_each(self, jobs: Submitted) -> None:
        submitted = [item for item in self._items if item.job_id is not None]
        columns = [
            Column("picture", lambda item: item.path.name),
            Column("job", lambda item: item.job_id),
            Column("status", lambda item: item.row.get("status", "DELETED")),
            Column("time", lambda item: duration(item.elapsed_s), is_number=True),
            Column("tokens", lambda item: item.row.get(self._runtime.settings.cost_column), is_number=True),
            Column("size", _size, is_wide=True),
        ]
        print_table(submitted, columns, empty="")
        for item in submitted:  # one line for each, because a path must be whole to be copied
            result = item.output or item.row.get("enhancedUrl")
            if item.reason is not None and item.output is None:
                note(f"darkroom: {item.path}: job {item.job_id}: {item.reason}")
            elif result is not None:
                sys.stdout.write(f"{item.path.name}: {result}\n")
        if unsaved := [item.job_id for item in submitted if item.job_id and item.reason and _is_completed(item)]:
            note(f"fetch them: `{jobs.save_command(unsaved)}`")


def read_picture(path: Path, settings: Settings) -> Picture:
    """Read a picture up to the size limit, and check its header.

    Raises:
        OperationError: the file can't be read, or no worker would accept the picture.
    """
    try:
        with path.open("rb") as file:
            data = file.read(settings.max_image_bytes + 1)
    except OSError as error:
        raise OperationError(f"it can't be read: {error.strerror}") from error
    return check_picture(path.name, data, settings)


def _is_completed(item: _Item) -> bool:
    return item.row.get("status") == "COMPLETED"


def _size(item: _Item) -> str | None:
    width_px, height_px = item.row.get("enhancedWidth"), item.row.get("enhancedHeight")
    return None if width_px is None else f"{width_px} x {height_px}"
