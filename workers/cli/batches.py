"""What is said of jobs that a command submits: what they cost and how to leave them, how they ended, and what to do."""

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from workers.cli.output import count_of, note
from workers.cli.parameters import TierName
from workers.cli.progress import MANY
from workers.operations.users import Payer

MOST_NAMED: Final = 3
"""Jobs or pictures that are named for an error that several have."""

MOST_ERRORS: Final = 20
"""Different errors that a summary shows, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A picture that came to nothing.

    Attributes:
        name: what it is called.
        job_id: its job, if it had one.
        reason: why.
        has_result: its job ended COMPLETED, so that the result is to be fetched, and not to be paid for again.
    """

    name: str
    job_id: str | None
    reason: str
    has_result: bool = False


def announce(count: int, noun: str, tier: str, tokens: int, payer: Payer, *, is_waiting: bool) -> None:
    """Say on stderr what is about to be submitted, for whom and for how much, and how to leave it.

    Args:
        count: jobs.
        noun: what each makes, such as `picture`.
        tier: a label of `EnhancementTier`.
        tokens: what all of them cost.
        payer: whose jobs they are.
        is_waiting: the command waits for the results.
    """
    price = count_of(tokens, "token")
    if payer.balance is None:
        price += f", which Darkroom doesn't charge (TOKENS={payer.mode})"
    else:
        price += f" of a balance of {payer.balance:,}" + (": not enough for all" if tokens > payer.balance else "")
    note(f"{count_of(count, noun)} at tier {TierName[tier].value} for {payer.name}: {price}")
    if is_waiting:
        note("Ctrl-C leaves them in the queue and says how to fetch their results later")


@dataclass(frozen=True, slots=True)
class Submitted:
    """Jobs that a command has submitted, as other commands can name them.

    Attributes:
        ids: of the jobs.
        user: whose they are: an e-mail or an id.
        since: the database's time before the first of them was submitted.
        out: where their results were to be written.
    """

    ids: Sequence[str]
    user: str
    since: datetime
    out: Path | None = None

    def terms(self, ids: Sequence[str] | None = None) -> str:
        """Return the arguments that mean these jobs, or some of them: their ids, or a filter where they are many."""
        chosen = self.ids if ids is None else ids
        if len(chosen) <= MANY:
            return " ".join(chosen)
        moment = self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"--user {shlex.quote(self.user)} --since {moment}"

    def save_command(self, ids: Sequence[str] | None = None) -> str:
        """Return the command that fetches their results, or those of some."""
        return f"darkroom jobs save {self.terms(ids)} --out {shlex.quote(str(self.out or 'DIR'))}"

    def note_left(self) -> None:
        """Say, where the command is left before their end, that they stay, and how to go on."""
        if self.ids:
            what = count_of(len(self.ids), "job")
            note(f"left before the end of {what}; `darkroom jobs watch` follows those that aren't over")
            note(f"results: `{self.save_command()}`")

    def note_submitted(self) -> None:
        """Print, after --no-wait, how to continue."""
        if self.ids:
            note("submitted; `darkroom jobs watch` follows them, and `darkroom up` works on them")
            note(f"results: `{self.save_command()}`")


def note_failures(failures: Iterable[Failed], submitted: Submitted | None = None) -> None:
    """Say on stderr what failed, each error once with how often, an example and what to do about it."""
    by_reason: dict[str, list[Failed]] = {}
    for one in failures:
        by_reason.setdefault(one.reason, []).append(one)
    ordered = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    for reason, ones in ordered[:MOST_ERRORS]:
        names = ", ".join(one.name for one in ones[:MOST_NAMED])
        others = f" and {len(ones) - MOST_NAMED:,} others" if len(ones) > MOST_NAMED else ""
        note("\n".join(_wrapped(f"{len(ones):,} x {reason}: {names}{others}")))
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
        else:  # a filter also means what others of this user's programs have submitted since
            note(f"try them again: `{retry} --limit {len(ids)} --dry-run` shows which jobs; without --dry-run it pays")


def _wrapped(text: str) -> list[str]:
    """Return a text in lines that a terminal needn't break within a word; elsewhere in one line."""
    width = shutil.get_terminal_size().columns if sys.stderr.isatty() else sys.maxsize
    return textwrap.wrap(
        text, width, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
