"""The command jobs explain."""

from typing import Annotated

import typer

from workers.cli.failures import DONE
from workers.cli.opening import run_with_runtime
from workers.cli.output import column, print_json, print_table
from workers.cli.parameters import Json
from workers.cli.wording import event_words, waiting_words
from workers.operations.explaining import explain_job
from workers.process.runtime import Runtime


def explain(job_id: Annotated[str, typer.Argument(help="A job's id.")], *, as_json: Json = False) -> int:
    """Tell what became of a job, in order, and why it waits now.

    Every claim, stage, provider call, retry, rescue, pause, charge and refund; also of a job whose row is deleted.
    """

    async def work(runtime: Runtime) -> int:
        story = await explain_job(runtime, job_id)
        timeline = [
            {
                "at": event.at,
                "event": event.event,
                "stage": event.stage,
                "attempt": event.attempt,
                "text": event_words(event, job_id),
            }
            for event in story.timeline
        ]
        waits = [{"kind": one.kind, "text": waiting_words(one, runtime.settings.max_wait_s)} for one in story.waits]
        if as_json:
            status = None if story.job is None else story.job.status
            print_json({"id": job_id, "status": status, "timeline": timeline, "waits": waits})
            return DONE
        columns = [
            column("at"),
            column("attempt", "try", is_number=True, is_wide=True),
            column("stage", is_wide=True),
            column("text", "what", may_wrap=True),
        ]
        print_table(timeline, columns, empty="nothing has happened yet")
        typer.echo()
        if story.job is None:
            typer.echo(f"job {job_id} is deleted; this is what is left of it")
        elif not waits:
            typer.echo(f"job {job_id} is {story.job.status}: it is over")
        else:
            typer.echo(f"job {job_id} is {story.job.status}:")
            print_table(waits, [column("text", "because", may_wrap=True)], empty="")
        return DONE

    return run_with_runtime(work)
