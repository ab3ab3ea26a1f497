"""The command demo: enhances sample photographs with its own services and workers."""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.lazy import later
from workers.cli.parameters import Json
from workers.cli.results import require_writable

run = later("workers.demo.execution:run")


def demo(
    out: Annotated[
        str, typer.Option("--out", metavar="DIR", help="Write the before/after sheet and the page to this folder.")
    ] = "demo-output",
    *,
    as_json: Json = False,
) -> int:
    """Enhance sample photographs by services and workers that the demo starts itself.

    Several users submit jobs of all four tiers: five damaged photographs, a blend, and a job that is made to fail, so
    that it must end refunded. The results are shown on a before/after sheet (PNG) and on a page with sliders (HTML).
    Your data isn't touched.
    """
    folder = Path(out)
    require_writable(folder)
    return int(run(folder.absolute(), is_json=as_json))
