"""The command enhance: submits pictures, and writes the results."""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.failures import CommandUsageError
from workers.cli.lazy import later
from workers.cli.parameters import At, Json, NoWait, Out, Payer, PipelinesTier, beginning
from workers.cli.results import OUT_WITHOUT_WAIT, require_writable

Request = later("workers.cli.enhancing:Request")
run = later("workers.cli.enhancing:run")

Paths = Annotated[list[str], typer.Argument(metavar="PATH", help="Files of pictures: JPEG, PNG, WebP or GIF.")]
PipelineOfJobs = Annotated[
    str | None,
    typer.Option(
        "--pipeline",
        metavar="ID",
        help="The pipeline that says how pictures are treated, given by its id or the beginning of it.",
    ),
]
ShareToken = Annotated[
    str | None,
    typer.Option(
        "--pipeline-token", metavar="TOKEN", help="The share token of a pipeline that its owner shares by link."
    ),
]
Blend = Annotated[
    str | None,
    typer.Option("--blend", metavar="PATH", help="A second picture, which is blended into each of the others."),
]


def enhance(
    paths: Paths,
    tier: PipelinesTier = None,
    pipeline: PipelineOfJobs = None,
    pipeline_token: ShareToken = None,
    blend: Blend = None,
    out: Out = None,
    user: Payer = None,
    at: At = None,
    *,
    no_wait: NoWait = False,
    as_json: Json = False,
) -> int:
    """Enhance pictures, and wait for the results.

    Workers that run already do the jobs. If no worker runs, the command starts one, which ends with the command.
    """
    for path in [*paths, *([blend] if blend else [])]:
        if Path(path).is_dir():
            raise CommandUsageError(f"{path} is a directory; name the pictures in it, such as {path.rstrip('/')}/*.jpg")
    if out is not None and no_wait:
        raise CommandUsageError(OUT_WITHOUT_WAIT)
    if pipeline_token is not None and pipeline is None:
        raise CommandUsageError("--pipeline-token is of a pipeline; name it with --pipeline")
    if out is not None:
        require_writable(Path(out))
    code: int = run(
        Request(
            paths=tuple(map(Path, paths)),
            tier=None if tier is None else tier.name,
            pipeline_id=pipeline,
            pipeline_token=pipeline_token,
            blend=None if blend is None else Path(blend),
            out=None if out is None else Path(out),
            user=user,
            run_at=None if at is None else beginning(at),
            is_waiting=not no_wait,
            is_json=as_json,
        )
    )
    return code
