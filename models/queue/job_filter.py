"""Which jobs an operator selects, as a value and as SQL over a job's row."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from models.job_tables.rendering import as_state, id_as_text, over
from models.job_tables.row_facts import and_is_ours
from models.job_tables.table import JobTable


@dataclass(frozen=True, slots=True)
class UserOfJobs:
    """A user by the id that rows of jobs have; of one application, or of every one that has such a user."""

    id: str
    application: str | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs an operator selects. A field that isn't given excludes no job.

    `user` is a user of one application, or whoever has an id in any. `since` is the earliest creation time, and `until`
    a time before which a job was created; `error` is a text that the error message contains, in upper or lower case.
    `stage` is the stage that a job's row shows, or else the one that it has in the queue. With `leaves_out_retried`,
    jobs that an operator has already retried aren't selected; the retry of many jobs uses it.
    """

    statuses: Sequence[str] = ()
    user: UserOfJobs | None = None
    job_type: str | None = None
    since: datetime | None = None
    error: str | None = None
    leaves_out_retried: bool = False
    tier: str | None = None
    stage: str | None = None
    until: datetime | None = None

    @property
    def is_rare(self) -> bool:
        """Whether rows have to be looked at that may not be selected, beside those of other statuses."""
        given = (self.user, self.job_type, self.error, self.tier, self.stage, self.until)
        return self.leaves_out_retried or any(one is not None for one in given)

    @property
    def is_any(self) -> bool:
        """Whether anything is asked for."""
        return bool(self.statuses) or self.since is not None or self.is_rare


class Terms:
    """The values of a statement's parameters, collected while its text is made."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def place(self, value: object, type_: str) -> str:
        """Add a value; return SQL for its parameter, such as `$3::text`."""
        self.values.append(value)
        return f"${len(self.values)}::{type_}"


def condition(table: JobTable, wanted: JobFilter, terms: Terms, *, by_status: bool = True) -> str:
    """Return a SQL condition over `j`, a row of the table: it is a job that the filter selects. It is never NULL.

    Args:
        table: the job table.
        wanted: the filter.
        terms: gets the values that the condition compares with.
        by_status: whether the status is compared; not where the statement reads rows of one label only.
    """
    parts = ["true" + and_is_ours(table, "j")]
    if by_status and wanted.statuses:
        state = as_state(table, f"j.{table.status_column}")
        parts.append(f"({state}) = ANY ({terms.place(list(wanted.statuses), 'text[]')})")
    if wanted.user is not None:
        parts.append(f"{over(table.user, 'j')} = {terms.place(wanted.user.id, 'text')}")
    if wanted.job_type is not None:
        parts.append(f"{over(table.job_type, 'j')} = {terms.place(wanted.job_type, 'text')}")
    if wanted.tier is not None:
        parts.append(f"{over(table.tier, 'j')} = {terms.place(wanted.tier, 'text')}")
    if wanted.stage is not None:
        parts.append(f"{stage_of(table)} = {terms.place(wanted.stage, 'text')}")
    if wanted.since is not None:
        parts.append(f"{over(table.created, 'j')} >= {terms.place(wanted.since, 'timestamptz')} AT TIME ZONE 'utc'")
    if wanted.until is not None:
        parts.append(f"{over(table.created, 'j')} < {terms.place(wanted.until, 'timestamptz')} AT TIME ZONE 'utc'")
    if wanted.error is not None:
        error = "NULL" if table.error_column is None else f"j.{table.error_column}"
        parts.append(f"strpos(lower({error}), lower({terms.place(wanted.error, 'text')})) > 0")
    if wanted.leaves_out_retried:
        parts.append(f"NOT {_is_retried(table)}")
    return f"coalesce({' AND '.join(parts)}, false)"


def stage_of(table: JobTable) -> str:
    """Return SQL for the stage of a job, given as row `j`: as the row shows it, or else as the queue has it."""
    queued = f"""(SELECT q.stage FROM darkroom.job_queue q
            WHERE q.job_type = {over(table.job_type, "j")} AND q.job_id = {id_as_text(table, "j")})"""
    return f"coalesce(j.{table.stage_column.name}::text, {queued})" if table.stage_column else queued


def _is_retried(table: JobTable) -> str:
    type_ = over(table.job_type, "j")
    return f"""EXISTS (SELECT FROM darkroom.operator_actions a
                WHERE a.action = 'job_retry' AND a.target = {id_as_text(table, "j")}
                  AND coalesce(a.after ->> 'jobType', {type_}) = {type_})"""
