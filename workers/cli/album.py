"""The command album enhance: submits the pictures of an album as one batch, and follows it."""

from contextlib import ExitStack
from typing import Annotated

import typer

from workers.cli.batch_commands import follow_batch, report
from workers.cli.failures import DONE, FAILED
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json
from workers.cli.own_worker import OwnWorker
from workers.cli.parameters import At, Json, NoWait, TierName, beginning
from workers.operations.batches import submit_album
from workers.operations.ids import whole_id
from workers.presentation.values import count_of
from workers.process.runtime import Runtime


def enhance(
    album_id: Annotated[str, typer.Argument(metavar="ALBUM_ID", help="The id of an album, or the beginning of one.")],
    tier: Annotated[
        TierName | None,
        typer.Option(
            "--tier",
            case_sensitive=False,
            help="The size and the price of the results. Without it, the pipeline's, or else the album's.",
        ),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option(
            "--pipeline", metavar="ID", help="The pipeline of all pictures, instead of the album's; or its beginning."
        ),
    ] = None,
    at: At = None,
    *,
    redo: Annotated[bool, typer.Option("--redo", help="Take pictures that are done at this tier, too.")] = False,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Enhance the pictures of an album that aren't done at a tier, and wait for them.

    Those that are under way at that tier are left out, too. All others are submitted and paid by the album's user,
    or none. Pictures whose jobs failed are taken again. Workers that run already do the jobs. If no worker runs, the
    command starts one, which ends with the command.
    """
    run_at = None if at is None else beginning(at)

    async def work(runtime: Runtime) -> int:
        whole = await whole_id(runtime, "album", album_id)
        pipeline_id = None if pipeline is None else await whole_id(runtime, "pipeline", pipeline)
        async with OwnWorker(runtime) as own_worker:
            batch = await submit_album(
                runtime, whole, tier and tier.name, pipeline_id=pipeline_id, redo=redo, run_at=run_at
            )
            tokens = runtime.settings.prices[str(batch.tier)] * batch.total
            note(f"batch {batch.id}: {count_of(batch.total, 'picture')} submitted for {count_of(tokens, 'token')}")
            if not batch.total:
                note(f"the album has no picture that isn't done or under way at tier {TierName[str(batch.tier)].value}")
            if no_wait or not batch.total:
                if as_json:
                    print_json(batch)
                return DONE
            with ExitStack() as left:
                left.callback(note, f"`darkroom batches watch {batch.id}` follows it, `batches cancel` cancels it")
                batch = await follow_batch(
                    runtime, batch, is_json=as_json, on_look=lambda _: own_worker.start_if_needed()
                )
                left.pop_all()
            report(batch, is_json=as_json)
        return DONE if batch.completed == batch.total else FAILED

    return run_with_runtime(work, submits=True, for_pictures=True)
