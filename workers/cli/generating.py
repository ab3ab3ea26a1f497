"""The work of `darkroom generate` and `modify`, after their arguments were checked: submit, watch, write, report."""

import asyncio
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from models.queue.submission import Generation
from workers.cli.batches import Submitted, announce
from workers.cli.enhancing import read_picture
from workers.cli.failures import DONE, FAILED
from workers.cli.opening import run_with_runtime
from workers.cli.output import console, note, print_json
from workers.cli.own_worker import STARTS, OwnWorker
from workers.cli.progress import follow_jobs
from workers.cli.results import write_new
from workers.operations.errors import OperationError
from workers.operations.jobs import get_jobs
from workers.operations.users import payer_of, require_user
from workers.process.runtime import Runtime
from workers.submission import read_result, store_input, submit_generation

LABEL_CHARS = 40


@dataclass(frozen=True, slots=True)
class Request:
    """The checked arguments of the command; `path` is None for a picture made from words."""

    prompt: str
    tier: str
    path: Path | None
    aspect: str | None
    out: Path | None
    user: str | None
    run_at: datetime | timedelta | None
    is_waiting: bool
    is_json: bool

    @property
    def job_type(self) -> str:
        """The job type in the form of the job's row: GENERATE or MODIFY."""
        return "GENERATE" if self.path is None else "MODIFY"


def run(request: Request) -> int:
    """Make the picture of a request; return the exit code.

    Raises:
        OperationError: it could not be submitted.
    """
    return run_with_runtime(lambda runtime: _run(request, runtime), submits=True, for_pictures=True)


async def _run(request: Request, runtime: Runtime) -> int:
    picture = None if request.path is None else read_picture(request.path, runtime.settings)
    cost = runtime.settings.prices[request.tier]
    user = await require_user(runtime, request.user, tokens_needed=cost)
    payer = await payer_of(runtime, user)
    announce(1, "picture", request.tier, cost, payer, is_waiting=request.is_waiting)
    async with OwnWorker(runtime) as own_worker:
        has_workers = await own_worker.has_others()
        if request.is_waiting and not has_workers:
            await own_worker.start_if_needed()
        key = None if picture is None else await store_input(runtime, user.id, picture)
        asked = Generation(
            *(user.id, request.job_type, request.tier, request.prompt),
            input_key=key,
            aspect=request.aspect,
            run_at=request.run_at,
        )
        job_id = await submit_generation(runtime, asked)
        submitted = Submitted([job_id], payer.name, payer.at, request.out)
        if request.is_waiting:
            with ExitStack() as left:
                # whatever ends the wait: the job is charged
                left.callback(lambda: submitted.note_left(has_workers=has_workers and not own_worker.is_started))
                await _follow(request, runtime, job_id, own_worker)
                left.pop_all()
        job = next(iter(await get_jobs(runtime, [job_id])), None)
        code = await _report(request, runtime, job_id, {} if job is None else job.columns)
    if not request.is_waiting and not request.is_json:
        submitted.note_submitted(has_workers=has_workers)
    return code


async def _follow(request: Request, runtime: Runtime, job_id: str, own_worker: OwnWorker) -> None:
    screen = console(is_error=request.is_json)
    labels = {job_id: " ".join(request.prompt.split())[:LABEL_CHARS]}
    await follow_jobs(
        runtime,
        labels,
        screen,
        keeps_table=False,
        label_title="prompt",
        on_look=lambda _: own_worker.start_if_needed(),
        without_worker=STARTS,
    )


async def _report(request: Request, runtime: Runtime, job_id: str, row: Mapping[str, Any]) -> int:
    """Write the result into the folder of --out, and print where it is."""
    is_done = row.get("status") == "COMPLETED"
    output, reason = None, None if is_done or not request.is_waiting else row.get("errorMessage") or "it is gone"
    if is_done and request.out is not None:
        stem = request.path.stem if request.path else job_id
        try:
            data = await read_result(runtime, row["outputImageR2Key"])
            output = await asyncio.to_thread(write_new, request.out, stem, data)
        except OperationError as error:
            reason = str(error)
        except OSError as error:
            reason = f"it can't be written to {request.out}: {error.strerror}"
    if request.is_json:
        print_json({"output": output, **row})
    elif reason is not None:
        note(f"darkroom: job {job_id}: {reason}")
    else:
        result = output or row.get("outputImageUrl") or "submitted"
        sys.stdout.write(f"{job_id}: {result}\n")
    return FAILED if reason is not None else DONE
