"""Options that several commands share."""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from models.job_state import JobStatus
from models.job_tables.registry import JOB_TABLES
from workers.cli.failures import CommandUsageError

_AGO = re.compile(r"(\d{1,6})\s*(min|h|d)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """Return the time that a text means: ISO 8601 (UTC without a zone), or a duration ago such as 30min, 2h, 7d.

    Raises:
        typer.BadParameter: it is neither.
    """
    try:
        if ago := _AGO.fullmatch(text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        given = datetime.fromisoformat(text.strip())
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:  # no time, or one outside of the calendar
        raise typer.BadParameter(f"{text!r} is no time; give 2026-03-01T00:00:00Z, or a while ago: 2h, 7d") from error


Json = Annotated[bool, typer.Option("--json", help="Print JSON, with the tables' column names.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, the newest first.")]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="A job's id, or its beginning.")]
JobIds = Annotated[list[str], typer.Argument(metavar="JOB_ID...", help="Jobs by their ids, or beginnings of ids.")]
PipelineId = Annotated[str, typer.Argument(metavar="PIPELINE_ID", help="A pipeline's id, or its beginning.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record of operators' actions.")]


Statuses = Annotated[
    list[str] | None, typer.Option("--status", help="PENDING, PROCESSING, COMPLETED, ...; may be repeated.")
]
OfUser = Annotated[str | None, typer.Option("--user", help="E-mail or id.")]
JobType = Annotated[str | None, typer.Option("--type", help="enhance, blend, generate or modify.")]
Since = Annotated[
    datetime | None,
    typer.Option("--since", parser=moment, metavar="TIME", help="Created since: 2026-03-01T00:00:00Z, 2h, 7d."),
]
ErrorText = Annotated[str | None, typer.Option("--error", metavar="TEXT", help="The error message holds this.")]


class TierName(StrEnum):
    """A tier as people type it."""

    FREE = "free"
    TIER_1K = "1k"
    TIER_2K = "2k"
    TIER_4K = "4k"


_TIER_HELP = "How large, and at what price: 1024, 2048, 4096 px."
Tier = Annotated[TierName, typer.Option("--tier", case_sensitive=False, help=_TIER_HELP)]
PipelinesTier = Annotated[
    TierName | None,
    typer.Option("--tier", case_sensitive=False, help=f"{_TIER_HELP} The pipeline's without it, else 1k."),
]


def require_known(statuses: list[str] | None, job_type: str | None) -> None:
    """Check that statuses and a job type exist.

    Raises:
        CommandUsageError: one doesn't.
    """
    for option, given, known in (
        *(("--status", one.upper(), [status.value for status in JobStatus]) for one in statuses or []),
        *(("--type", one, [name for table in JOB_TABLES for name in table.job_types]) for one in [job_type] if one),
    ):
        if given not in known:
            raise CommandUsageError(f"{option} {given!r}: give {', '.join(known)}")
