"""The command jobs explain."""

import typer

from workers.cli.failures import DONE
from workers.cli.opening import run_with_runtime
from workers.cli.output import print_json
from workers.cli.parameters import JobId, Json
from workers.cli.tables import column, print_table
from workers.operations.explaining import explain_job
from workers.operations.ids import whole_id
from workers.presentation.outlooks import outlook_fields, outlook_words
from workers.presentation.wording import event_words, over_words, waiting_words
from workers.process.runtime import Runtime


def explain(
    job_id: JobId,
    *,
    as_json: Json = False,
) -> int:
    """Print what happened to a job, in order, and why it waits now.

    Prints every claim, stage, provider call, retry, rescue, pause, charge and refund, also those of a job whose row is
    deleted.
    """

    async def work(runtime: Runtime) -> int:
        whole = await whole_id(runtime, "job", job_id)
        known = await explain_job(runtime, whole)
        timeline = [
            {
                "at": event.at,
                "event": event.event,
                "stage": event.stage,
                "attempt": event.attempt,
                "text": event_words(event, known.job_id),
            }
            for event in known.timeline
        ]
        waits = [{"kind": one.kind, "text": waiting_words(one, runtime.settings.max_wait_s)} for one in known.waits]
        if as_json:
            status = None if known.job is None else known.job.status
            outlook = None if known.outlook is None else outlook_fields(known.outlook)
            print_json(
                {"id": known.job_id, "status": status, "timeline": timeline, "waits": waits, "progress": outlook}
            )
            return DONE
        columns = [
            column("at"),
            column("attempt", "try", is_number=True, is_wide=True),
            column("stage", is_wide=True),
            column("text", "what", may_wrap=True),
        ]
        print_table(timeline, columns, empty="nothing has happened yet")
        typer.echo()
        if known.job is None:
            typer.echo(f"job {whole} is deleted; this is what is left of it")
        elif not waits:
            typer.echo(f"job {whole} is {known.job.status}: {over_words(known.job)}")
        else:
            typer.echo(f"job {whole} is {known.job.status}:")
            print_table(waits, [column("text", "because", may_wrap=True)], empty="")
        if known.outlook is not None and (words := outlook_words(known.outlook)):
            typer.echo(words)
        return DONE

    return run_with_runtime(work)
