"""Texts about the jobs that a command submits: their cost, how to leave the command, how jobs ended, and what to do."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from workers.cli.output import note, wrapped
from workers.cli.parameters import TierName
from workers.cli.progress import MANY
from workers.operations.users import Payer
from workers.presentation.values import count_of

MOST_NAMED: Final = 3
"""How many jobs or pictures are named for an error that several have."""

MOST_ERRORS: Final = 20
"""How many different errors a summary shows; the most frequent come first."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture without a saved result.

    Attributes:
        name: the picture's name.
        job_id: its job's id, if it had a job.
        reason: why it has no saved result.
        has_result: whether its job ended COMPLETED, so that its result can be fetched without paying again.
    """

    name: str
    job_id: str | None
    reason: str
    has_result: bool = False


def announce(count: int, noun: str, tier: str, tokens: int, payer: Payer, *, is_waiting: bool) -> None:
    """Print to stderr what is about to be submitted, for which user and at which price, and how to leave the command.

    Args:
        count: number of jobs.
        noun: what each job makes, such as `picture`.
        tier: a label of `EnhancementTier`.
        tokens: what all the jobs cost together.
        payer: the user who pays.
        is_waiting: whether the command waits for the results.
    """
    price = count_of(tokens, "token")
    if payer.balance is None:
        price += f", which Darkroom doesn't charge (TOKENS={payer.mode})"
    else:
        price += f" of a balance of {payer.balance:,}" + (": not enough for all" if tokens > payer.balance else "")
    note(f"{count_of(count, noun)} at tier {TierName[tier].value} for {payer.name}: {price}")
    if is_waiting:
        them, their = ("it", "its result") if count == 1 else ("them", "their results")
        note(f"Ctrl-C leaves {them} in the queue and says how to fetch {their} later")


@dataclass(frozen=True, slots=True)
class Submitted:
    """Jobs that a command has submitted, and the arguments by which other commands can select them.

    Attributes:
        ids: of the jobs.
        user: who pays for them: an e-mail or an id.
        since: the database's time just before the first of them was submitted.
        out: the folder to which their results were to be written.
    """

    ids: Sequence[str]
    user: str
    since: datetime
    out: Path | None = None

    def terms(self, ids: Sequence[str] | None = None) -> str:
        """Return command arguments that select these jobs, or some of them: ids, or a filter if there are many."""
        chosen = self.ids if ids is None else ids
        if len(chosen) <= MANY:
            return " ".join(chosen)
        moment = self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"--user {shlex.quote(self.user)} --since {moment}"

    def save_command(self, ids: Sequence[str] | None = None) -> str:
        """Return the command that saves the results of these jobs, or of some of them."""
        return f"darkroom jobs save {self.terms(ids)} --out {shlex.quote(str(self.out or 'DIR'))}"

    def note_left(self, unsubmitted: Sequence[str] = (), *, has_workers: bool) -> None:
        """Print that the submitted jobs continue after the command's end, and how to get their results.

        Args:
            unsubmitted: names of the pictures that weren't submitted yet.
            has_workers: whether workers run besides this command's own one, which ends with the command.
        """
        if self.ids:
            what = count_of(len(self.ids), "job")
            which = "those that aren't over"
            note(f"left before the end of {what}; {_follows(which, has_workers=has_workers)}")
            note(f"results: `{self.save_command()}`")
        if unsubmitted:
            note(f"not submitted, and not charged: {count_of(len(unsubmitted), 'picture')}: {_named(unsubmitted)}")

    def note_results(self, ids: Sequence[str]) -> None:
        """Print, if no --out was given, the command that saves the results in a folder."""
        if ids:
            note(f"results: `{self.save_command(ids)}`")

    def note_submitted(self, *, has_workers: bool) -> None:
        """Print, after --no-wait, the commands that follow the jobs and save their results."""
        if self.ids:
            note(f"submitted; {_follows('it' if len(self.ids) == 1 else 'them', has_workers=has_workers)}")
            note(f"results: `{self.save_command()}`")


def _follows(which: str, *, has_workers: bool) -> str:
    if has_workers:
        return f"`darkroom jobs watch` follows {which}"
    return f"no worker runs: `darkroom up` works on {which}, and `darkroom jobs watch` follows"


def _named(names: Sequence[str]) -> str:
    others = f" and {len(names) - MOST_NAMED:,} others" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + others


def note_failures(failures: Iterable[Failed], submitted: Submitted | None = None) -> None:
    """Print to stderr which jobs failed: each error once, with its number of jobs, one of them, and what to do."""
    by_reason: dict[str, list[Failed]] = {}
    for one in failures:
        by_reason.setdefault(one.reason, []).append(one)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    for reason, ones in ordered[:MOST_ERRORS]:
        note(wrapped(f"{len(ones):,} x {reason}: {_named([one.name for one in ones])}", first="  ", rest="    "))
        if job_id := next((one.job_id for one in ones if one.job_id), None):
            note(f"    `darkroom jobs explain {job_id}`")
    if len(ordered) > MOST_ERRORS:
        note(f"  and {len(ordered) - MOST_ERRORS:,} other errors")
    if submitted is None:
        return
    with_jobs = [(one.job_id, one.has_result) for ones in by_reason.values() for one in ones if one.job_id]
    if ids := [job_id for job_id, has_result in with_jobs if has_result]:
        note(f"fetch them: `{submitted.save_command(ids)}`")
    if ids := [job_id for job_id, has_result in with_jobs if not has_result]:
        retry = f"darkroom jobs retry {submitted.terms(ids)}"
        if len(ids) <= MANY:
            note(f"try them again: `{retry}`")
        else:  # a filter would also select what the user's other programs have submitted since
            note(f"try them again: `{retry} --limit {len(ids)} --dry-run` shows which jobs; without --dry-run it pays")
