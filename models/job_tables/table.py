"""The description of a job table: everything that Darkroom needs to know about it.

A fragment is a piece of SQL over `r`, the job's row; `rendering.over` rewrites it for the alias that a statement uses.
Column names are written as in SQL, with their quotes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from models.job_state import JobStatus
from models.job_tables.inputs import JobInputs


@dataclass(frozen=True, slots=True)
class IdType:
    """A type of ids. Everywhere but in the job table itself, a job's id is text.

    `of_text` is SQL that casts `{id}`, a text, to the type, and gives NULL where the text isn't an id of this type, so
    that the id of another table causes no error. None for text itself.
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
    """A condition, as a fragment, that each row must meet to be queued.

    If one row of a statement doesn't meet it, the whole statement is refused.
    """

    must: str
    sqlstate: str
    words: str


@dataclass(frozen=True, slots=True)
class StageColumn:
    """A column that shows the stage of a running job; only labels that the column can hold are written."""

    name: str
    type: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Jobs are paid in tokens: from `public.user_token_balances`, recorded in the ledger `public.token_transactions`.

    The price is the tier's. `spend_type` is the type of a charge in the ledger. `source` is the source of a charge,
    and the beginning of a refund's source.
    """

    spend_type: str
    source: str


@dataclass(frozen=True, slots=True)
class Balance:
    """Jobs are paid from a balance of the application's own; `darkroom.token_entries` has every change of it.

    The price is what a row's cost says, 0 or more. Fragments here are over `b`, the row of the balance.

    Attributes:
        table: the table of balances with its schema.
        payer_column: its unique column that holds the user's id.
        balance: fragment: the balance, a whole number.
        change: assignments that change it by `$amount`, a whole number that is negative for a charge.
        payer_type: the type of the payer's column.
        ledger: one statement that records a movement in a table of the application's own, over `$user`, `$amount`,
            `$kind` (charge or refund), `$job` and `$balance` (after it); empty where the application has no such table.
    """

    table: str
    payer_column: str
    balance: str
    change: str
    payer_type: IdType = TEXT
    ledger: str = ""


@dataclass(frozen=True, slots=True)
class Book:
    """What is written, exactly once, in the transaction in which a job enters, is claimed, or ends.

    Attributes:
        when: `entered`, `claimed`, `completed`, `failed` or `cancelled`; a job whose row is deleted is cancelled.
        sql: one statement of PL/pgSQL over `{rows} r`, the rows of the jobs to which it happens in one statement, and
            `{reason}`, a fragment that says why a job failed or was cancelled.
    """

    when: str
    sql: str


@dataclass(frozen=True, slots=True)
class ResultRows:
    """A table of the application's own that gets a row for each picture of a completed job, in its transaction.

    Attributes:
        table: the table with its schema.
        columns: its columns, each with a fragment over `r`, the job's row, and `p`, the picture: `p.id` (a new uuid, as
            text), `p.n` (from 1), `p.key`, `p.url`, `p.width_px`, `p.height_px`, `p.size_bytes`, `p.sha256`, `p.model`
            and `p.temperature`.
    """

    table: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Inputs:
    """How the inputs of a job are read.

    Attributes:
        select: one query that reads a job: $1 is the job's id as text; $2 is the id of its queue row, or NULL if the
            job is over. It becomes a subquery for each of several jobs, so it ends in no semicolon, and uses no alias
            `asked`.
        load: builds the inputs from the row of that statement.
    """

    select: str
    load: Callable[[Mapping[str, Any]], JobInputs]


@dataclass(frozen=True, slots=True, eq=False)
class JobTable:
    """One of the application's job tables. Equality is identity, so that rendered statements can be cached by it.

    Attributes:
        name: the table with its schema.
        rows: the plural noun for its rows in names of ours, such as `enter_enhancements`.
        row: the singular noun for its rows in names of ours, such as `guard_enhancement`.
        job_types: the types of its jobs; a type belongs to one table.
        user: fragment: the user's id, as text.
        job_type: fragment: the type; NULL for a row of another program, if the table has any.
        tier: fragment: the tier, as text.
        cost: fragment: tokens; NULL if the application's users pay in another way.
        max_attempts: fragment: the largest number of attempts.
        created: fragment: the time of creation, a timestamp in UTC.
        first_stage: fragment: the stage at which a job begins.
        labels: the table's label for each status, in the order of `JobStatus`. Several statuses may share one.
        inputs: how a job's inputs are read.
        search_path: the schemas in which its fragments find what they name, as SET takes them.
        application: the name of the application; its job types and its objects' keys begin with it, but for `pictures`.
        result: columns that hold a result, each with the fact of the stored picture that it holds: `url`, `key`,
            `width_px`, `height_px`, `size_bytes`, `model` or `temperature`; or `ids`, the ids of the rows of
            `result_rows`, in the order of the pictures. What an endpoint answered has the facts `answer`, any JSON, and
            `http_status`.
        result_rows: the table that gets a row for each picture of a result; None if there is none.
        result_sql: fragment over `r`, the job's row before its end, and `$facts`, the facts of the first picture as
            jsonb, named as in `ResultRows`: a jsonb object of the values of `result_sql_columns`; None if there are
            none.
        result_sql_columns: further columns that hold a result, as the keys of that object; a key that is missing leaves
            its column as it is.
        retrying_label: label of a PENDING job after a failed attempt; None if such a job has the label of every PENDING
            job.
        held_labels: labels of a PENDING job that waits for its producer: it is charged and queued, and not due until
            the producer writes another label of PENDING.
        scheduled_at: fragment, a timestamptz: a PENDING job isn't due before this time; NULL means at once.
        ids_come_again: whether a new row may have the id of an earlier one, as after `TRUNCATE ... RESTART IDENTITY`.
            Then nothing that is recorded of the earlier job is taken for the new one.
        has_other_rows: whether some rows are other programs', which we neither change nor count.
        id_column: the primary key.
        id_type: the type of the primary key.
        status_column: the column of the label.
        status_type: the type of this column.
        time_type: the type of every column of times; `timestamp` means UTC.
        stage_column: the column that shows the stage; None where there is none. The queue holds the stage of every job.
        error_column: the column that says why a job failed or waits.
        retries_column: the column that counts failed attempts.
        run_column: the column that names the claim that works on a job.
        started_column: the column of when the first claim began.
        completed_column: the column of when the job was completed.
        updated_column: the column of when the row was last written.
        frozen: columns that must not change while a job is unfinished.
        names_refused_changes: whether a refused change names the columns that it changes, and columns of a result may
            change only as the job is completed; otherwise it names all of `frozen`, and a result may always change.
        compared_as_text: those of `frozen` whose types have no equality, such as json.
        open_while_held: those of `frozen` that may change while the job waits for its producer; the row is then checked
            again as when it entered.
        books: what is written when a job enters, is claimed, or ends.
        deleted: PL/pgSQL that runs after rows were deleted, over `rows_before o`.
        checked: PL/pgSQL over `{rows} n`, which raises errors to refuse rows: those that enter, and those of which a
            column of `open_while_held` was changed.
        has_end_of_failure: whether `completed_column` is also set when a job fails.
        checks: conditions that each row must meet to be queued.
        picture_ids: columns that hold ids of pictures.
        entering: PL/pgSQL that runs before a statement's rows enter, over `entering_rows n` and `settings`, the
            settings on which entering depends by their keys; it raises errors to refuse rows.
        fill_function: function of a trigger that completes each row before it is inserted.
        is_unpaid: fragment: the job has no account, and is counted in the provider's budget for all such jobs.
        money: what its jobs are paid from; None where nobody pays.
        shown: fragments for the columns `imageId` and `sourceImageId` of the view of all jobs.
        key_column: the column of `result` that holds the object's key; None if another table's row names the
            object.
        object_columns: every column that can hold an object's key or URL, including JSON.
        input_columns: those of `object_columns` that name an input, which is no longer needed long after the job's end.
        checkpoint_columns: for each stage whose output has columns, these columns, each with the key in the output's
            JSON whose value it holds. The first column holds the output's main value; another program may have written
            into it what can't be read. Outputs of other stages are kept in darkroom.checkpoints.
        json_columns: the columns of type jsonb that a transition writes.
        pipeline_column: the column in which the pipeline that a job uses is recorded.
        again: one statement that submits a new job like job $1 (its id as text), and returns the new job's id; empty
            where operators can't retry jobs.
        kept_columns: columns that the retry of a job copies beside those that its submission names.
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
    search_path: str = "pg_catalog, pg_temp"
    application: str = "pictures"
    result_rows: ResultRows | None = None
    result_sql: str | None = None
    result_sql_columns: tuple[str, ...] = ()
    retrying_label: str | None = None
    held_labels: tuple[str, ...] = ()
    scheduled_at: str | None = None
    ids_come_again: bool = True
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
    names_refused_changes: bool = True
    compared_as_text: frozenset[str] = frozenset()
    open_while_held: tuple[str, ...] = ()
    books: tuple[Book, ...] = ()
    deleted: str = ""
    checked: str = ""
    has_end_of_failure: bool = False
    checks: tuple[Check, ...] = ()
    picture_ids: tuple[str, ...] = ()
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
        """Every label of a PENDING job: one that waits for its turn, for its next attempt, or for its producer."""
        retrying = () if self.retrying_label is None else (self.retrying_label,)
        return (self.labels[JobStatus.PENDING], *retrying, *self.held_labels)

    @property
    def are_labels_ours(self) -> bool:
        """Whether each label equals the name of its status, so that no translation is needed."""
        return self.pending_labels == (JobStatus.PENDING,) and all(
            self.labels[status] == status for status in JobStatus
        )

    @property
    def states(self) -> Mapping[str, JobStatus]:
        """The status of each label, in the order of `labels`; for a shared label, the first of its statuses."""
        return {
            **dict.fromkeys(self.pending_labels, JobStatus.PENDING),
            **{text: state for state, text in reversed(list(self.labels.items()))},
        }
