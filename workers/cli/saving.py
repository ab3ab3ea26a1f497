"""The command jobs save."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from models.queue.job_filter import JobFilter
from workers.cli.batches import Failed, note_failures
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.parameters import Json, OfUser, Since
from workers.cli.progress import MANY
from workers.cli.results import require_writable, write_new
from workers.operations.errors import OperationError
from workers.operations.ids import whole_id
from workers.operations.job_lists import list_jobs
from workers.operations.jobs import get_named
from workers.operations.results import fetch_result
from workers.operations.users import user_of_jobs
from workers.presentation.values import count_of
from workers.process.runtime import Runtime


def save(
    out: Annotated[str, typer.Option("--out", metavar="DIR", help="Write each result to this folder as NAME.jpg.")],
    job_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB_ID", help="The ids of jobs, or their beginnings. Without ids, give --user or --since."
        ),
    ] = None,
    user: OfUser = None,
    since: Since = None,
    *,
    as_json: Json = False,
) -> int:
    """Fetch the results of finished jobs.

    A result's file has the name of the job's picture, or the job's id if the picture has no name. If the folder already
    has such a file, a number is added. The exit code is 1 if a result can't be saved, as when its job isn't finished or
    has failed.
    """
    if bool(job_ids) == (user is not None or since is not None):
        raise CommandUsageError("name jobs by their ids, or choose them by --user and --since: one of the two")
    folder = Path(out)
    require_writable(folder)

    async def work(runtime: Runtime) -> int:
        ids = list(job_ids or [])
        if not ids:
            of_user = None if user is None else await user_of_jobs(runtime, user)
            wanted = JobFilter(user=of_user, since=since)
            found = await list_jobs(runtime, wanted, limit=sys.maxsize)  # new jobs must displace none
            ids = [job.name for job in reversed(found)]
        saved, failed = await _save(runtime, ids, folder)
        if as_json:
            rows = await get_named(runtime, [*saved, *(one.job_id for one in failed if one.job_id)])
            print_json([{"output": saved.get(name), **job.columns} for name, job in rows.items()])
        is_many = len(saved) + len(failed) > MANY
        if not as_json:
            _print(saved, failed, folder, is_many=is_many)
        if is_many:
            note_failures(failed)
        else:
            for one in failed:
                note(f"darkroom: job {one.name}: {one.reason}")
        return FAILED if failed else DONE

    return run_with_runtime(work)


async def _save(runtime: Runtime, given: Sequence[str], folder: Path) -> tuple[dict[str, Path], list[Failed]]:
    """Write every result that exists; return the files by the job's name, and the jobs without a result."""
    saved: dict[str, Path] = {}
    failed: list[Failed] = []
    for beginning in dict.fromkeys(given):
        name = None  # until it is known which job is meant
        try:
            name = await whole_id(runtime, "job", beginning)
            if name in saved:
                continue
            result = await fetch_result(runtime, name)
            saved[name] = await asyncio.to_thread(write_new, folder, result.stem, result.data)
        except OperationError as error:
            failed.append(Failed(name or beginning, name, str(error)))
        except OSError as error:
            failed.append(Failed(name or beginning, name, f"it can't be written to {folder}: {error.strerror}"))
    return saved, failed


def _print(saved: Mapping[str, Path], failed: Sequence[Failed], folder: Path, *, is_many: bool) -> None:
    if is_many:
        typer.echo(f"{count_of(len(saved), 'result')} saved in {folder}, {len(failed):,} can't be saved")
        return
    for job_id, path in saved.items():
        typer.echo(f"{job_id}: {path}")
    if not saved and not failed:
        note("there are no such jobs")
