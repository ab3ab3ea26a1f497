"""Commands about the queue: queue stats."""

# ruff: noqa: PLC0415 - what is heavy is imported by the command that needs it, so that --help is there at once

from typing import TYPE_CHECKING

import typer

from workers.cli.failures import DONE
from workers.cli.parameters import Json

if TYPE_CHECKING:
    from workers.runtime import Runtime

app = typer.Typer(help="What waits, what runs, and who works.")


@app.callback()
def queue() -> None:
    """What waits, what runs, and who works."""


@app.command()
def stats(*, as_json: Json = False) -> int:
    """Count jobs by queue and status.

    Names the live workers, too, with their lease.
    """
    from workers.cli.opening import run_with_runtime
    from workers.cli.output import Column, column, duration, print_json, print_table
    from workers.operations.queues import queue_stats

    async def work(runtime: "Runtime") -> int:
        found = await queue_stats(runtime)
        if as_json:
            print_json({"queues": found.queues, "workers": found.workers})
            return DONE
        print_table(
            found.queues,
            [
                column("queue"),
                column("status"),
                column("count", "jobs", is_number=True),
                Column("oldest wait", lambda row: duration(row["oldest_wait_s"]), is_number=True),
                column("next_due_at", "next due"),
            ],
            empty="the queue is empty",
        )
        typer.echo()
        print_table(
            found.workers,
            [
                column("host"),
                Column("pid", lambda row: str(row["pid"]), is_number=True),
                column("queues"),
                Column("lanes", lambda row: f"{row['running']} of {row['lanes']}", is_number=True),
                Column("lease", lambda row: duration(row["lease_left_s"]), is_number=True),
                column("started_at", "since", is_wide=True),
                column("id", is_wide=True),
            ],
            empty="no worker is running; start `darkroom worker`, or `darkroom up` for everything",
        )
        return DONE

    return run_with_runtime(work)
