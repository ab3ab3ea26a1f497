"""The command demo: enhances sample photographs with its own services and workers."""

from pathlib import Path
from typing import Annotated

import typer

from workers.cli.parameters import Json
from workers.cli.results import require_writable
from workers.demo.execution import run


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
    require_writable(folder)
    return run(folder.absolute(), is_json=as_json)
