"""The report of the demo: printed for people, or as one JSON object."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from pipelines.job_types import JOB_TYPES
from workers.cli.output import console, print_json
from workers.cli.tables import Column, column, print_table
from workers.demo.facts import Facts
from workers.demo.outcome import Outcome
from workers.presentation.values import duration

STAGES: Final = tuple(stage.name for stage in JOB_TYPES["enhance"].stages)
LABEL_WIDTH: Final = 10


def print_report(outcome: Outcome, *, is_json: bool) -> None:
    """Print stages and times, tokens, what was measured and done, and where the pictures are."""
    if is_json:
        print_json(_object(outcome))
        return
    screen = console()
    _print_times(outcome.facts)
    screen.print()
    _print_tokens(outcome)
    screen.print()
    _print_treatments(screen, outcome.facts)
    _print_end(screen, outcome)


def _print_times(facts: Sequence[Facts]) -> None:
    def time_of(stage: str) -> Column:
        return Column(stage, lambda fact: _stage_time(fact, stage), is_number=True)

    columns = [
        Column("job", lambda fact: fact.demo_job.name),
        Column("tier", lambda fact: fact.demo_job.tier, is_wide=True),
        Column("queued", lambda fact: duration(fact.waited_s), is_wide=True, is_number=True),
        *map(time_of, STAGES),
        Column("total", lambda fact: duration(fact.total_s), is_number=True),
        Column("status", lambda fact: fact.job["status"]),
        Column("size", lambda fact: fact.sizes, is_wide=True),
    ]
    print_table(facts, columns, empty="there are no jobs")


def _stage_time(fact: Facts, stage: str) -> str:
    if stage not in fact.stage_ms:
        return ""
    return f"{fact.stage_ms[stage]} ms"


def _print_tokens(outcome: Outcome) -> None:
    rows = _token_rows(outcome)
    columns = [
        column("user"),
        column("jobs"),
        column("before", is_number=True),
        Column("charged", lambda row: _signed(-row["charged"]), is_number=True),
        Column("refunded", lambda row: _signed(row["refunded"]), is_number=True),
        column("after", is_number=True),
    ]
    print_table(rows, columns, empty="there are no users")


def _signed(amount: int) -> str:
    return f"{amount:+,}" if amount else "0"


def _token_rows(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one row for each user: the tokens that they had, paid, were refunded, and have now."""
    by_email: dict[str, list[Facts]] = {}
    for fact in outcome.facts:
        by_email.setdefault(fact.demo_job.email, []).append(fact)
    return [
        {
            "user": email.partition("@")[0],
            "email": email,
            "jobs": ", ".join(f"{fact.demo_job.name} {fact.demo_job.tier}" for fact in own),
            "before": outcome.before[email],
            "charged": sum(fact.charged for fact in own),
            "refunded": sum(fact.refunded for fact in own),
            "after": outcome.after[email],
        }
        for email, own in sorted(by_email.items())
    ]


def _print_treatments(screen: Console, facts: Sequence[Facts]) -> None:
    for fact in facts:
        screen.print(Text.assemble((fact.demo_job.name, "bold"), f": {fact.demo_job.damage}"))
        lines = {"found": ", ".join(fact.found), "measured": fact.measured}
        lines["done" if fact.job["status"] == "COMPLETED" else "failed"] = fact.done
        for label, text in lines.items():
            if text:
                _print_hanging(screen, label, text)
    screen.print()


def _print_hanging(screen: Console, label: str, text: str) -> None:
    """Print a label and a text beside it, whose further lines stand under the first."""
    lines = Text(text).wrap(screen, max(20, screen.width - LABEL_WIDTH - 2))
    for number, line in enumerate(lines):
        line.rstrip()
        title = Text("  " + (label if number == 0 else "").ljust(LABEL_WIDTH), style="dim")
        screen.print(Text.assemble(title, line), soft_wrap=True)


def _print_end(screen: Console, outcome: Outcome) -> None:
    phases = ", ".join(f"{name} {duration(seconds)}" for name, seconds in outcome.phases_s.items())
    screen.print(Text(f"{duration(sum(outcome.phases_s.values()))} in all: {phases}"))
    for problem in outcome.problems:
        screen.print(Text(f"wrong: {problem}", style="red"), soft_wrap=True)
    if not outcome.problems:
        counts = _counts(outcome.facts)
        screen.print(Text(f"{counts}; ledger and balances agree; every result is stored as recorded", style="green"))
    for path in (outcome.sheet, outcome.page):
        screen.print(Text(str(path)), soft_wrap=True)


def _counts(facts: Sequence[Facts]) -> str:
    statuses = [str(fact.job["status"]) for fact in facts]
    return ", ".join(f"{statuses.count(status)} {status}" for status in dict.fromkeys(statuses))


def _object(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "jobs": [_job_object(fact) for fact in outcome.facts],
        "users": _token_rows(outcome),
        "problems": outcome.problems,
        "phases": {name: round(seconds, 3) for name, seconds in outcome.phases_s.items()},
        "sheet": outcome.sheet,
        "page": outcome.page,
        "home": outcome.home,
    }


def _job_object(fact: Facts) -> dict[str, Any]:
    """Return a job's row by its table's column names, with what the demo knows of the job."""
    return {
        "name": fact.demo_job.name,
        "damage": fact.demo_job.damage,
        "email": fact.demo_job.email,
        **fact.job,
        "stagesMs": dict(fact.stage_ms),
        "measures": dict(fact.measures),
        "treatments": list(fact.treatments),
        "sha256": fact.sha256,
        "charged": fact.charged,
        "refunded": fact.refunded,
    }
