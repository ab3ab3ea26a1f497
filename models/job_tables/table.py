"""The description of a job table: everything that the queue has to know about it.

A fragment is SQL over `r`, the job's row. `rendering.over` writes it for the alias that a statement uses. Names of
columns are written as SQL has them, with their quotes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs


@dataclass(frozen=True, slots=True)
class IdType:
    """A type of ids. Everywhere else a job's id is text.

    `of_text` is SQL that turns `{id}`, a text, into the type: NULL where the text isn't how the type writes an id, so
    that an id of another table is no error. None for text itself.
    """

    name: str
    of_text: str | None = None


TEXT: Final = IdType("text")
BIGINT: Final = IdType(
    "bigint",
    "CASE WHEN {id} ~ '^(0|-?[1-9][0-9]{{0,18}})$' AND {id}::numeric BETWEEN '-9223372036854775808' AND "
    "'9223372036854775807' THEN {id}::bigint END",
)
INTEGER: Final = IdType(
    "integer",
    "CASE WHEN {id} ~ '^(0|-?[1-9][0-9]{{0,9}})$' AND {id}::bigint BETWEEN -2147483648 AND 2147483647 "
    "THEN {id}::integer END",
)
UUID: Final = IdType(
    "uuid", "CASE WHEN {id} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$' THEN {id}::uuid END"
)


@dataclass(frozen=True, slots=True)
class Check:
    """What each row must be to enter: a fragment. Where it isn't true of one, the whole statement is refused."""

    must: str
    sqlstate: str
    words: str


@dataclass(frozen=True, slots=True)
class StageColumn:
    """A column that shows the stage of a running job; it is written only for the labels that it can hold."""

    name: str
    type: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Jobs are paid in tokens: from `public.user_token_balances`, entered in the ledger `public.token_transactions`.

    The price is the tier's. `spend_type` is the ledger's type of the charge. `source` is its source, and begins that of
    a refund.
    """

    spend_type: str
    source: str


@dataclass(frozen=True, slots=True)
class Balance:
    """Jobs are paid from a balance of the application's own, and entered in `darkroom.job_money` alone.

    The price is what a row's cost says, 0 or more.

    Attributes:
        table: the table of balances with its schema.
        payer_column: its unique column that holds the user's id.
        payer_type: the type of this column.
        balance_column: a whole number.
    """

    table: str
    payer_column: str
    balance_column: str
    payer_type: IdType = TEXT


@dataclass(frozen=True, slots=True)
class Inputs:
    """How the inputs of a job are read.

    Attributes:
        select: one statement for a job: $1 is its id as text, $2 the id of its queue row, NULL for one that is over.
        load: builds the inputs from the row of that statement.
    """

    select: str
    load: Callable[[Mapping[str, Any]], JobInputs]


@dataclass(frozen=True, slots=True, eq=False)
class JobTable:
    """One of the application's job tables. A description is equal to itself alone, so that statements are kept by it.

    Attributes:
        name: the table with its schema.
        rows: what its rows are called in names of ours, such as `enter_enhancements`.
        row: the same of one row, such as `guard_enhancement`.
        job_types: the types of its jobs; a type belongs to one table.
        user: fragment: the user's id, as text.
        job_type: fragment: the type; NULL for a row that isn't ours, where there may be such rows.
        tier: fragment, as text.
        cost: fragment: tokens; NULL where the application's users pay in another way.
        max_attempts: fragment.
        created: fragment: a timestamp in UTC.
        first_stage: fragment: the stage at which a job begins.
        labels: the table's label for each of our states, in the order of `JobStatus`. Several may share one.
        inputs: how a job's inputs are read.
        result: columns that hold a result, and which fact of the stored picture each is: `url`, `key`, `width_px`,
            `height_px`, `size_bytes`, `model` or `temperature`.
        retrying_label: of a PENDING job that an attempt has failed; None where it has the label of any other.
        held_labels: of a PENDING job that waits for its producer: charged and queued, and not due until the producer
            writes another label of PENDING.
        scheduled_at: fragment, a timestamptz: a PENDING job isn't due before it. NULL: at once.
        has_other_rows: some rows are other programs', and nothing of ours touches or counts them.
        id_column: the primary key.
        id_type: its type.
        status_column: where the label stands.
        status_type: the type of this column.
        time_type: of every column of times: `timestamp` means UTC.
        stage_column: None where the table has no such column; the queue holds the stage of every job.
        error_column: why a job failed or waits.
        retries_column: counts failed attempts.
        run_column: names the claim that works on a job.
        started_column: when the first claim began.
        completed_column: when the job was completed.
        updated_column: when the row was last written.
        frozen: columns that don't change while a job is unfinished.
        checks: what each row must be to enter.
        entering: PL/pgSQL before a statement's rows enter, over `entering_rows n`; it raises what it refuses.
        fill_function: of a trigger that completes each row before it is inserted.
        is_unpaid: fragment: the job has no account, and shares the provider's budget of all such jobs.
        money: from what its jobs are paid; None where nobody pays.
        shown: fragments for the columns `imageId` and `sourceImageId` of the view of all jobs.
        key_column: that of `result` which holds the object's key; None where another table's row names it.
        object_columns: every column that can hold an object's key or URL, in JSON too.
        input_columns: those of `object_columns` that name an input which nobody needs once the job is long over.
        checkpoint_columns: for each stage whose output has columns, these columns, and which key of the output's JSON
            each is; the first holds the output's value, and another program may have written what can't be read. What
            other stages leave is kept in darkroom.checkpoints.
        json_columns: those of type jsonb that a transition writes.
        pipeline_column: where the pipeline that treats a job is recorded.
        again: one statement that submits a job like job $1 (its id as text) once more, and returns the new job's id;
            empty where operators can't try jobs again.
        kept_columns: what a job that is tried again takes over beside what its submission names.
    """

    name: str
    rows: str
    row: str
    job_types: tuple[str, ...]
    user: str
    job_type: str
    tier: str
    cost: str
    max_attempts: str
    created: str
    first_stage: str
    labels: Mapping[JobStatus, str]
    inputs: Inputs
    result: Mapping[str, str]
    retrying_label: str | None = None
    held_labels: tuple[str, ...] = ()
    scheduled_at: str | None = None
    has_other_rows: bool = False
    id_column: str = "id"
    id_type: IdType = TEXT
    status_column: str = "status"
    status_type: str = 'public."JobStatus"'
    time_type: str = "timestamp"
    stage_column: StageColumn | None = None
    error_column: str | None = None
    retries_column: str | None = None
    run_column: str | None = None
    started_column: str | None = None
    completed_column: str | None = None
    updated_column: str | None = None
    frozen: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    entering: str = ""
    fill_function: str = ""
    is_unpaid: str | None = None
    money: Tokens | Balance | None = None
    shown: Mapping[str, str] = field(default_factory=dict)
    key_column: str | None = None
    object_columns: tuple[str, ...] = ()
    input_columns: tuple[str, ...] = ()
    checkpoint_columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    json_columns: frozenset[str] = frozenset()
    pipeline_column: str | None = None
    again: str = ""
    kept_columns: tuple[str, ...] = ()

    @property
    def relation(self) -> str:
        """The table's name without its schema."""
        return self.name.rpartition(".")[2]

    @property
    def pending_labels(self) -> tuple[str, ...]:
        """Every label of a PENDING job: of one that waits for its turn, for its next attempt, and for its producer."""
        retrying = () if self.retrying_label is None else (self.retrying_label,)
        return (self.labels[JobStatus.PENDING], *retrying, *self.held_labels)

    @property
    def are_labels_ours(self) -> bool:
        """Each label is the name of its state, so that nothing has to be translated."""
        return self.pending_labels == (JobStatus.PENDING,) and all(
            self.labels[status] == status for status in JobStatus
        )

    @property
    def states(self) -> Mapping[str, JobStatus]:
        """Our state for each label, in the order of `labels`; that of a shared label is the first one."""
        return {
            **dict.fromkeys(self.pending_labels, JobStatus.PENDING),
            **{text: state for state, text in reversed(list(self.labels.items()))},
        }
