"""The command enhance: submits pictures, and writes the results."""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.enhancing import Request, run
from workers.cli.failures import CommandUsageError
from workers.cli.parameters import Json, PipelinesTier
from workers.cli.results import OUT_WITHOUT_WAIT, require_writable

Paths = Annotated[list[str], typer.Argument(metavar="PATH", help="Pictures: JPEG, PNG, WebP or GIF.")]


def enhance(
    paths: Paths,
    tier: PipelinesTier = None,
    pipeline: Annotated[str | None, typer.Option("--pipeline", metavar="ID", help="How to treat them.")] = None,
    pipeline_token: Annotated[
        str | None,
        typer.Option("--pipeline-token", metavar="TOKEN", help="Of a pipeline that its owner has shared by link."),
    ] = None,
    blend: Annotated[str | None, typer.Option("--blend", metavar="PATH", help="A second picture for each.")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Write results there as NAME.jpg.")] = None,
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="EMAIL", help="Whose jobs these are; may be left out on embedded data."),
    ] = None,
    *,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Only submit; a worker takes them when one runs.")] = False,
    as_json: Json = False,
) -> int:
    """Enhance pictures, and wait for the results.

    Workers that run are used; where none does, one runs for as long as it is needed.
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
    return run(
        Request(
            paths=tuple(map(Path, paths)),
            tier=None if tier is None else tier.name,
            pipeline_id=pipeline,
            pipeline_token=pipeline_token,
            blend=None if blend is None else Path(blend),
            out=None if out is None else Path(out),
            user=user,
            is_waiting=not no_wait,
            is_json=as_json,
        )
    )
