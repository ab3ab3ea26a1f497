"""What an installation has recorded about itself in `darkroom.settings`, and whether its triggers still stand."""

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import Connection, text

from models.application import enums
from models.job_tables.registry import JOB_TABLES
from models.schema.migrations.adoption import row_faults
from models.schema.migrations.errors import InvalidSettingError, ModeChangeError, ModeRequiredError, NewerDatabaseError
from models.schema.migrations.rights import missing_rights, rights_message
from models.schema.migrations.sequences import sequences_behind
from models.schema.migrations.session import BRANCHES, branch_revisions, stamped_revisions
from models.schema.migrations.visibility import hidden_tables

Mode = Literal["managed", "producer", "external"]
MODES: tuple[Mode, ...] = get_args(Mode)

TRIGGERS = text("""
    SELECT relname || '.' || tgname, pg_get_triggerdef(pg_trigger.oid), tgenabled IN ('O', 'A')
    FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE relnamespace = 'public'::regnamespace AND pronamespace = 'darkroom'::regnamespace
        AND NOT tgisinternal AND tgparentid = 0
    ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class Recorded:
    """What `db upgrade` recorded and the triggers read.

    Attributes:
        mode: who charges.
        prices: tokens by tier.
        cost_column: the name of the cost's column in both job tables.
        installation: what tells this database's wake-ups from those of others on the same broker; a restored copy has
            the same. Empty as long as no release that makes one has upgraded the database.
    """

    mode: Mode
    prices: Mapping[str, int]
    cost_column: str
    installation: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a process from working on this database, or that an operator should know.

    `ahead` is no reason to wait: revisions expand before they contract, so yesterday's code works on them.
    """

    kind: Literal[
        "unreachable",
        "rights_missing",
        "not_installed",
        "behind",
        "ahead",
        "not_recorded",
        "trigger_missing",
        "trigger_off",
        "sequence_behind",
        "rows_hidden",
        "rows_refused",
    ]
    message: str


def recorded(connection: Connection) -> Recorded | None:
    """Return what was recorded; None before the first upgrade."""
    if connection.scalar(text("SELECT to_regclass('darkroom.settings')")) is None:
        return None
    rows = connection.execute(text("SELECT key, value::text FROM darkroom.settings"))
    values = {key: json.loads(value) for key, value in rows}
    if not {"mode", "prices", "cost_column"} <= values.keys():
        return None
    return Recorded(
        mode=values["mode"],
        prices=values["prices"],
        cost_column=values["cost_column"],
        installation=values.get("installation", ""),
    )


def record(connection: Connection, key: str, value: object) -> None:
    """Write one setting."""
    connection.execute(
        text(
            "INSERT INTO darkroom.settings (key, value, updated_at) VALUES (:key, CAST(:value AS jsonb), now()) "
            "ON CONFLICT (key) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at "
            "WHERE settings.value <> excluded.value"
        ),
        {"key": key, "value": json.dumps(value)},
    )


def record_installation(connection: Connection) -> None:
    """Give the installation its id, once."""
    if not value_of(connection, "installation"):
        record(connection, "installation", secrets.token_hex(8))


def require_valid_settings(mode: str | None, prices: Mapping[str, int]) -> None:
    """Check what is to be recorded.

    Raises:
        InvalidSettingError: an unknown mode, a tier without a price or a price that isn't a count of tokens.
    """
    if mode is not None and mode not in MODES:
        raise InvalidSettingError(f"{mode!r} is no mode of money: give {', '.join(MODES)}")
    tiers = set(enums.enhancement_tier.enums)
    if set(prices) != tiers:
        raise InvalidSettingError(
            f"prices are for {', '.join(sorted(prices))}; the tiers are {', '.join(sorted(tiers))}"
        )
    for tier, price in prices.items():
        if isinstance(price, bool) or not isinstance(price, int) or price < 0:
            raise InvalidSettingError(f"the price of {tier} is {price!r}: give a whole number of tokens, 0 or more")


def settled_mode(connection: Connection, asked: str | None, *, is_adopted: bool) -> Mode:
    """Return the mode of money that is to hold from now on; the caller records it.

    Raises:
        ModeRequiredError: another tool's tables, and neither asked for nor recorded.
        ModeChangeError: another mode than the recorded one, with jobs in the queue.
    """
    known = recorded(connection)
    mode = next((mode for mode in MODES if mode == asked), None)
    if known is None:
        if mode is None and is_adopted:
            raise ModeRequiredError
        return mode or "managed"
    if mode is None or mode == known.mode:
        return known.mode
    # An entering trigger reads the mode and then queues. Whoever is past that has to commit first, and whoever isn't
    # has to wait for us; job tables before the queue, as every program does
    for table in (*(table.name for table in JOB_TABLES), "darkroom.job_queue"):
        connection.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
    unfinished = connection.scalar(text("SELECT count(*) FROM darkroom.job_queue")) or 0
    if unfinished:
        raise ModeChangeError(known.mode, mode, unfinished)
    return mode


def record_triggers(connection: Connection) -> None:
    """Remember the triggers that stand now, so that their loss is seen and can be repaired.

    Another tool that rebuilds a table (rename, copy, drop) takes our triggers with it and says nothing.
    """
    definitions = {name: definition for name, definition, _ in connection.execute(TRIGGERS)}
    record(connection, "triggers", definitions)


def standing_triggers(connection: Connection) -> frozenset[str]:
    """Return the names of our triggers on the application's tables, as `table.trigger`, whether enabled or not."""
    return frozenset(name for name, _, _ in connection.execute(TRIGGERS))


def value_of(connection: Connection, key: str) -> Any:
    """Return one recorded setting as Python values; None where nothing is recorded."""
    value = connection.scalar(text("SELECT value::text FROM darkroom.settings WHERE key = :key"), {"key": key})
    return None if value is None else json.loads(value)


def _recorded_triggers(connection: Connection) -> dict[str, str]:
    return dict(value_of(connection, "triggers") or {})


def require_known_revisions(connection: Connection) -> None:
    """Refuse to work on a database that a newer Darkroom has migrated: what it holds can't be told from here.

    Raises:
        NewerDatabaseError: the version table holds a revision that isn't ours.
    """
    ahead = [problem.message for problem in problems(connection) if problem.kind == "ahead"]
    if ahead:
        raise NewerDatabaseError(ahead[0])


def problems(connection: Connection) -> Iterator[Problem]:
    """Find what is wrong with an installation. Where the role lacks rights, nothing else can be told."""
    missing = missing_rights(connection)
    if missing:
        yield Problem("rights_missing", rights_message(connection, missing))
        return
    if hidden := list(hidden_tables(connection)):
        yield from (Problem("rows_hidden", one.message) for one in hidden)
        return  # what we aren't shown can't be judged
    stamped = stamped_revisions(connection)
    known = {branch: branch_revisions(branch) for branch in BRANCHES}
    for revision in sorted(stamped - {one for revisions in known.values() for one in revisions}):
        yield Problem("ahead", f"revision {revision} is unknown here: a newer Darkroom migrated this database")
    for branch, revisions in known.items():
        at = [revision for revision in revisions if revision in stamped]
        if at and at[-1] != revisions[-1]:
            yield Problem("behind", f"branch {branch} is at {at[-1]}, not at {revisions[-1]}: run darkroom db upgrade")
    state = recorded(connection)
    if not stamped:
        yield Problem("not_installed", "this database has no Darkroom schema: run darkroom db upgrade")
    elif state is None:
        yield Problem("not_recorded", "mode, prices or cost column aren't recorded: run darkroom db upgrade")
    else:
        yield from _trigger_problems(connection)
        yield from _sequence_problems(connection)
        yield from (Problem("rows_refused", one) for one in row_faults(connection, state.cost_column, state.mode))


def _trigger_problems(connection: Connection) -> Iterator[Problem]:
    is_on = {name: on for name, _, on in connection.execute(TRIGGERS)}
    for name in _recorded_triggers(connection):
        if name not in is_on:
            yield Problem("trigger_missing", f"trigger {name} is gone: run darkroom db upgrade")
        elif not is_on[name]:
            yield Problem("trigger_off", f"trigger {name} is disabled: jobs pass it by until it is enabled again")


def _sequence_problems(connection: Connection) -> Iterator[Problem]:
    for one in sequences_behind(connection):
        yield Problem(
            "sequence_behind",
            f"sequence {one.sequence} would give {one.next_value} next, and {one.column} holds {one.highest} already: "
            "run darkroom db upgrade",
        )
