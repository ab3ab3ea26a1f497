"""The command demo: everything at once on sample photographs."""

import os
from pathlib import Path
from typing import Annotated

import typer

from workers.cli.failures import CommandUsageError
from workers.cli.parameters import Json
from workers.demo.run import run


def demo(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Write the before/after sheet and page there.")
    ] = "demo-output",
    *,
    as_json: Json = False,
) -> int:
    """Enhance sample photographs through services and workers of the demo's own.

    Five damaged photographs, a blend, and one job that must be refunded, by several users in all four tiers. Ends with
    a before/after sheet as PNG and as a page with sliders. Never touches data of yours.
    """
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandUsageError(
            f"--out {out} can't be a directory here: {error.strerror}; name one that can be written to"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandUsageError(f"--out {out} can't be written to; name a directory that can")

    return run(folder.absolute(), is_json=as_json)
