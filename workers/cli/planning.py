"""The command plan: what a number of jobs a day needs."""

from typing import Annotated, Final

import typer

from pipelines.job_types import JOB_TYPES, is_job_type, stage_names
from workers.cli.failures import DONE, CommandUsageError
from workers.cli.lazy import later
from workers.cli.opening import run_with_runtime
from workers.cli.output import note, print_json, wrapped
from workers.cli.parameters import Json, TierName
from workers.cli.tables import Column, column, print_fields, print_table
from workers.presentation.values import duration
from workers.process.runtime import Runtime

plan_capacity: Final = later("workers.operations.planning:plan_capacity")

MOST_S: Final = 86_400
"""The longest time, in seconds, that a stage takes or a job waits: a load is that of a day."""

Stages = Annotated[
    list[str] | None,
    typer.Option(
        "--stage",
        metavar="NAME=SECONDS",
        help="Mean seconds of a stage, in place of what recent jobs took. May be repeated.",
    ),
]


def plan(
    jobs_per_day: Annotated[
        float, typer.Option("--jobs-per-day", metavar="N", min=1, max=1e9, help="Jobs that come on a day.")
    ],
    tier: Annotated[TierName, typer.Option("--tier", case_sensitive=False, help="The tier of the jobs.")],
    job_type: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="The type of the jobs: enhance, blend, generate or modify.")
    ] = "enhance",
    peak: Annotated[
        float, typer.Option("--peak", metavar="X", min=1, max=1_000, help="How many times more jobs come when most do.")
    ] = 3.0,
    wait: Annotated[
        float,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, max=MOST_S, help="How long 95 of 100 jobs may wait for a lane then."
        ),
    ] = 30.0,
    lanes: Annotated[
        int | None,
        typer.Option("--lanes", metavar="N", min=1, max=10_000, help="Lanes of a process; DARKROOM_LANES by default."),
    ] = None,
    stage: Stages = None,
    *,
    as_json: Json = False,
) -> int:
    """Plan for a load.

    Lanes, worker processes, connections and provider places follow from how long the stages of recent jobs took, or
    from --stage. Waits are those of jobs in front of lanes, by the approximation of Allen and Cunneen; how far it is
    off stands in docs/scaling.md.
    """
    if not is_job_type(job_type):
        raise CommandUsageError(f"there is no job type {job_type!r}; there are {', '.join(JOB_TYPES)}")
    given_s = dict(_seconds(one) for one in stage or ())

    async def work(runtime: Runtime) -> int:
        planned = await plan_capacity(
            runtime,
            job_type=job_type,
            tier=tier.name,
            jobs_per_day=jobs_per_day,
            peak=peak,
            most_wait_s=wait,
            lanes_each=lanes,
            given_s=given_s,
        )
        need = planned.need
        if as_json:
            print_json({"stages": planned.stages, "need": need, "warnings": planned.warnings})
            return DONE
        print_table(
            planned.stages,
            [
                column("stage"),
                Column("seconds", lambda one: f"{one.mean_s:.2f}", is_number=True),
                Column("variability", lambda one: f"{one.variability:.2f}", is_number=True),
                Column("runs", lambda one: "given" if one.runs is None else f"{one.runs:,}", is_number=True),
            ],
            empty="",
        )
        typer.echo()
        print_fields(
            {
                "jobs at the peak": f"{need.peak_jobs_per_s:,.3g}/s, each {need.service_s:,.3g} s in a lane",
                "lanes": f"{need.lanes:,}, {need.busy_fraction:.0%} busy at the peak",
                "processes": f"{need.processes:,} with {need.lanes_each:,} lanes each",
                "wait at the peak": f"95 % wait at most {duration(need.wait_p95_s)}",
                "connections": f"{need.connections:,} of PostgreSQL, with one scheduler and a command",
                "provider places": f"{need.provider_places:,} at once, {need.calls_per_minute:,.0f} calls a minute",
                "stands at most": f"{need.most_jobs_per_hour:,.0f} jobs an hour with all lanes of these processes",
            }
        )
        for warning in planned.warnings:
            note(wrapped(f"note: {warning}", rest="  "))
        return DONE

    return run_with_runtime(work)


def _seconds(text: str) -> tuple[str, float]:
    """Read the value of --stage.

    Raises:
        CommandUsageError: it isn't a stage's name and a number of seconds.
    """
    name, _, value = text.partition("=")
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if name.upper() not in stage_names() or not 0 <= seconds <= MOST_S:
        known = ", ".join(stage_names())
        raise CommandUsageError(
            f"--stage {text!r} isn't NAME=SECONDS with a stage's name and up to {MOST_S:,} s; stages are {known}"
        )
    return name.upper(), seconds
