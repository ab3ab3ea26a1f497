"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, with the tables' column names.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, the newest first.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record of operators' actions.")]


class TierName(StrEnum):
    """A tier as people type it."""

    FREE = "free"
    TIER_1K = "1k"
    TIER_2K = "2k"
    TIER_4K = "4k"


Tier = Annotated[
    TierName, typer.Option("--tier", case_sensitive=False, help="How large, and at what price: 1024, 2048, 4096 px.")
]
