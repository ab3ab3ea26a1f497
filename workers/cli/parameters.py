"""Options that several commands share."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer

from models.applications.registry import job_types
from models.job_state import JobStatus
from workers.cli.failures import CommandUsageError
from workers.operations.errors import InvalidInputError
from workers.operations.moments import moment_of, span_of

END_YEAR = 3000
"""No job begins from this year on: the unit of such a time was mistaken."""


def moment(text: str) -> datetime:
    """Return the time that a text means: ISO 8601 (UTC without a zone), or a duration ago such as 30m, 2h, 7d.

    Raises:
        typer.BadParameter: it is neither.
    """
    try:
        return moment_of(text)
    except InvalidInputError as error:
        raise typer.BadParameter(str(error)) from error


def coming_time(text: str) -> datetime | timedelta:
    """Read the value of --at: a time with its zone, or a duration from now on.

    Raises:
        CommandUsageError: it is neither.
    """
    try:
        sign, _, rest = text.strip().partition("+")
        if not sign and (from_now := span_of(rest)) is not None:
            return from_now
        given = datetime.fromisoformat(text.strip())
        if given.tzinfo is not None:
            return given.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # no time, or one outside of the calendar
        raise CommandUsageError(f"--at {text!r} is no time; give 2026-03-01T09:00:00+01:00, or +2h") from error
    raise CommandUsageError(
        f"--at {text!r} has no zone; give {given.isoformat()}Z for UTC, or an offset such as +01:00"
    )


def beginning(text: str) -> datetime | timedelta:
    """Read the value of a submission's --at: a time with its zone before the year 3000, or a duration from now on.

    Raises:
        CommandUsageError: it is neither.
    """
    given = coming_time(text)
    until = datetime.now(UTC) + given if isinstance(given, timedelta) else given
    if until.year >= END_YEAR:
        raise CommandUsageError(f"--at {text!r} is no time at which a job can begin; give one before {END_YEAR}")
    return given


Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of a table; fields have the names of the tables' columns.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=10_000, help="Show at most N rows.")]
JobId = Annotated[str, typer.Argument(metavar="JOB_ID", help="The id of a job, TABLE/ID, or the beginning of one.")]
JobIds = Annotated[
    list[str], typer.Argument(metavar="JOB_ID", help="The ids of jobs, TABLE/ID, or the beginnings of ids.")
]
PipelineId = Annotated[
    str, typer.Argument(metavar="PIPELINE_ID", help="The id of a pipeline, or the beginning of one.")
]
Reason = Annotated[
    str | None,
    typer.Option(
        "--reason", metavar="TEXT", help="Why you do this. It is kept with the action in darkroom.operator_actions."
    ),
]


Statuses = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        metavar="STATUS",
        help=f"Only jobs of this status: {', '.join(JobStatus)}. May be repeated.",
    ),
]
OfUser = Annotated[
    str | None,
    typer.Option("--user", metavar="USER", help="Only jobs of this user, given by e-mail, id or APPLICATION/ID."),
]
JobType = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="Only jobs of this type: enhance, blend, generate or modify."),
]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=moment,
        metavar="TIME",
        help="Only jobs created since 2026-03-01T00:00:00Z (UTC without a zone), or for 30m, 2h or 7d.",
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until", parser=moment, metavar="TIME", help="Only jobs created before this time, given as for --since."
    ),
]
ErrorText = Annotated[
    str | None,
    typer.Option(
        "--error", metavar="TEXT", help="Only jobs whose error message contains this text, in upper or lower case."
    ),
]


Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write each result to this folder as NAME.jpg. Without it, results stay in the storage.",
    ),
]
Payer = Annotated[
    str | None,
    typer.Option(
        "--user",
        metavar="USER",
        help="The user who pays, given by e-mail or id. Needed unless PostgreSQL is embedded, where a local user pays.",
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Don't begin before 2026-03-01T09:00:00+01:00, or a time from now: +30s, +30m, +2h, +1d.",
    ),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Submit and end at once; workers do the jobs as soon as some run.")
]


class TierName(StrEnum):
    """A tier as people type it."""

    FREE = "free"
    TIER_1K = "1k"
    TIER_2K = "2k"
    TIER_4K = "4k"


_TIER_HELP = (
    "The size and the price of a result. Its long side is 1024 px for free and 1k, 2048 px for 2k, 4096 px for 4k; "
    "DARKROOM_PRICES has the prices in tokens."
)
Tier = Annotated[TierName, typer.Option("--tier", case_sensitive=False, help=_TIER_HELP)]
PipelinesTier = Annotated[
    TierName | None,
    typer.Option(
        "--tier",
        case_sensitive=False,
        help=f"{_TIER_HELP} Without it, the tier of the pipeline, or 1k where no pipeline is given.",
    ),
]


OfTier = Annotated[TierName | None, typer.Option("--tier", case_sensitive=False, help="Only jobs of this tier.")]
OfStage = Annotated[
    str | None,
    typer.Option("--stage", metavar="STAGE", help="Only jobs at this stage, or that ended there, such as GENERATING."),
]


def require_known(statuses: list[str] | None, job_type: str | None) -> None:
    """Check that statuses and a job type exist.

    Raises:
        CommandUsageError: a status or the job type doesn't exist.
    """
    for option, given, known in (
        *(("--status", one.upper(), [status.value for status in JobStatus]) for one in statuses or []),
        *(("--type", one, job_types()) for one in [job_type] if one),
    ):
        if given not in known:
            raise CommandUsageError(f"{option} {given!r}: give {', '.join(known)}")
