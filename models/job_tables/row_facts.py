"""Facts of a job's row, as SQL over an alias of the row."""

from collections.abc import Callable, Mapping
from typing import Final

from models.job_state import JobStatus
from models.job_tables.rendering import (
    UNFINISHED,
    as_state,
    id_as_text,
    label,
    labels,
    last_write,
    listed,
    over,
    quoted,
)
from models.job_tables.table import JobTable

_Fact = Callable[[JobTable, str], str]


def and_is_ours(table: JobTable, alias: str) -> str:
    """Return a further SQL condition, that a row is a job of Darkroom's; empty where every row is one."""
    return f" AND ({over(table.job_type, alias)}) IS NOT NULL" if table.has_other_rows else ""


def _is(*statuses: JobStatus, negated: bool = False) -> _Fact:
    """Return the fact that a row's label is one of some statuses' labels, or none of them."""

    def fact(table: JobTable, alias: str) -> str:
        texts = labels(table, statuses)
        if texts.count("', '") == 0:
            compared = f"{'<>' if negated else '='} {texts}"
        else:
            compared = f"{'NOT IN' if negated else 'IN'} ({texts})"
        return f"{alias}.{table.status_column} {compared}{and_is_ours(table, alias)}"

    return fact


def _fragment(name: str) -> _Fact:
    return lambda table, alias: over(getattr(table, name), alias)


def _silent(table: JobTable, alias: str) -> str:
    """Return a SQL condition: since `silent`, a UTC timestamp, nobody has written the row and no claim has begun."""
    conditions = [f"{over(last_write(table), alias)} < silent"]
    if table.started_column:
        cast = "" if table.time_type == "timestamp" else " AT TIME ZONE 'utc'"
        conditions.append(f"coalesce({alias}.{table.started_column}{cast} < silent, true)")
    return "\n                AND ".join(conditions)


def _stage(table: JobTable, alias: str) -> str:
    return f"{alias}.{table.stage_column.name}::text" if table.stage_column else "NULL"


def _resumed(table: JobTable, alias: str) -> str:
    """Return SQL for the stage at which a job that is queued again continues."""
    first = over(table.first_stage, alias)
    return f"coalesce({_stage(table, alias)}, {first})" if table.stage_column else first


def _ids(table: JobTable, alias: str) -> dict[str, str]:
    """Return every id that a row holds, as SQL, by the name that messages use for it."""
    pictures = {column.strip('"'): f"{alias}.{column}" for column in table.picture_ids}
    return pictures | {"id": id_as_text(table, alias), "userId": over(table.user, alias)}


def _id_sizes(table: JobTable, alias: str) -> str:
    return ", ".join(f"octet_length({id_})" for id_ in _ids(table, alias).values())


def _named_ids(table: JobTable, alias: str) -> str:
    return ", ".join(f"({quoted(name)}, {id_})" for name, id_ in _ids(table, alias).items())


def _new_reason(table: JobTable, _alias: str) -> str:
    """Return SQL that yields the reason why row `n` changed.

    If a cancellation left the message as it was in the row before, `o`, the message belongs to an earlier attempt and
    isn't the reason.
    """
    written = f"'set to ' || n.{table.status_column}"
    if table.error_column is None:
        return written
    error = table.error_column
    earlier = f"CASE n.{table.status_column} WHEN {label(table, JobStatus.CANCELLED)} THEN o.{error} END"
    return f"coalesce(nullif(n.{error}, {earlier}),\n                                {written})"


def waits_until(table: JobTable, alias: str) -> str:
    """Return SQL that yields when a PENDING job is due: infinity while it waits for its producer, NULL for at once."""
    time = over(table.scheduled_at, alias) if table.scheduled_at else "NULL::timestamptz"
    if not table.held_labels:
        return time
    held = listed(table.held_labels)
    return f"CASE WHEN {alias}.{table.status_column} IN ({held}) THEN 'infinity' ELSE {time} END"


def _frozen(table: JobTable, alias: str) -> list[str]:
    """Return the columns that must not change while a job is unfinished, as SQL that can be compared."""
    return [f"{alias}.{name}" + ("::text" if name in table.compared_as_text else "") for name in table.frozen]


OF_A_ROW: Final[Mapping[str, _Fact]] = {
    "id": id_as_text,
    "user": _fragment("user"),
    "type": _fragment("job_type"),
    "tier": _fragment("tier"),
    "cost": _fragment("cost"),
    "max attempts": _fragment("max_attempts"),
    "created": _fragment("created"),
    "first stage": _fragment("first_stage"),
    "resumed stage": _resumed,
    "last write": lambda table, alias: over(last_write(table), alias),
    "stage": _stage,
    "and is ours": and_is_ours,
    "waits until": waits_until,
    "id sizes": _id_sizes,
    "named ids": _named_ids,
    "state": lambda table, alias: as_state(table, f"{alias}.{table.status_column}"),
    "is pending": _is(JobStatus.PENDING),
    "is processing": _is(JobStatus.PROCESSING),
    "is not processing": _is(JobStatus.PROCESSING, negated=True),
    "is unfinished": _is(*UNFINISHED),
    "is silent": _silent,
    "new reason": _new_reason,
    "frozen": lambda table, alias: "(" + ", ".join(_frozen(table, alias)) + ")",
}
