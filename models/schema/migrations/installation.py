"""What `db upgrade` records about an installation in `darkroom.settings`, its triggers included."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, text

from models.applications.pictures import enums
from models.applications.registry import job_tables
from models.schema.migrations.errors import InvalidSettingError, ModeChangeError, ModeRequiredError
from models.schema.migrations.session import names_in_full

Mode = Literal["managed", "producer", "external"]
MODES: tuple[Mode, ...] = get_args(Mode)

TRIGGERS = text("""
    SELECT CASE nspname WHEN 'public' THEN '' ELSE nspname || '.' END || relname || '.' || tgname,
           pg_get_triggerdef(pg_trigger.oid), tgenabled IN ('O', 'A')
    FROM pg_trigger
    JOIN pg_class ON pg_class.oid = tgrelid
    JOIN pg_namespace ON pg_namespace.oid = relnamespace
    JOIN pg_proc ON pg_proc.oid = tgfoid
    WHERE nspname <> 'darkroom' AND pronamespace = 'darkroom'::regnamespace
        AND NOT tgisinternal AND tgparentid = 0
    ORDER BY 1
""")


@dataclass(frozen=True, slots=True)
class Recorded:
    """The settings that `db upgrade` recorded and the triggers read.

    Attributes:
        mode: the mode of money.
        prices: tokens by tier.
        cost_column: the name of the cost's column in both job tables.
        installation: id that distinguishes this database's wake-ups from those of others on the same broker; a restored
            copy has the same. Empty until a release that makes such ids has upgraded the database.
        stage_queues: the queues of stages; stages that aren't in it have queue `default`.
        applications: what is recorded of the applications (`models.applications.recorded`); None if nothing is.
        applications_at: when that was recorded.
    """

    mode: Mode
    prices: Mapping[str, int]
    cost_column: str
    installation: str = ""
    stage_queues: Mapping[str, str] = field(default_factory=dict)
    applications: Sequence[Mapping[str, Any]] | None = None
    applications_at: datetime | None = None


def recorded(connection: Connection) -> Recorded | None:
    """Return what was recorded; None before the first upgrade."""
    if connection.scalar(text("SELECT to_regclass('darkroom.settings')")) is None:
        return None
    rows = connection.execute(text("SELECT key, value::text, updated_at FROM darkroom.settings")).all()
    values = {key: json.loads(value) for key, value, _ in rows}
    if not {"mode", "prices", "cost_column"} <= values.keys():
        return None
    return Recorded(
        mode=values["mode"],
        prices=values["prices"],
        cost_column=values["cost_column"],
        installation=values.get("installation", ""),
        stage_queues=values.get("stage_queues", {}),
        applications=values.get("applications"),
        applications_at=next((at for key, _, at in rows if key == "applications"), None),
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


def record_known(connection: Connection, terms: Mapping[str, object]) -> None:
    """Write the settings that are known; one that is None keeps its recorded value."""
    for key, value in terms.items():
        if value is not None:
            record(connection, key, value)


def record_installation(connection: Connection) -> None:
    """Record a new id of this installation, if none is recorded."""
    if not value_of(connection, "installation"):
        record(connection, "installation", secrets.token_hex(8))


def require_valid_settings(mode: str | None, prices: Mapping[str, int]) -> None:
    """Check the settings that are to be recorded.

    Raises:
        InvalidSettingError: the mode is unknown, a tier has no price, or a price isn't a number of tokens.
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
    """Return the mode of money that will hold from now on; the caller records it.

    Where no job table keeps a balance, the mode says nothing, and none has to be given.

    Raises:
        ModeRequiredError: another tool made the tables, and no mode is asked for or recorded.
        ModeChangeError: the mode differs from the recorded one while jobs are queued.
    """
    known = recorded(connection)
    mode = next((mode for mode in MODES if mode == asked), None)
    if known is None:
        if mode is None and is_adopted and any(table.money for table in job_tables()):
            raise ModeRequiredError
        return mode or "managed"
    if mode is None or mode == known.mode:
        return known.mode
    # An entering trigger first reads the mode and then queues the job. This lock waits for a transaction that is
    # between the two, and makes later ones wait. Job tables are locked before the queue, as in every program.
    for table in (*(table.name for table in job_tables()), "darkroom.job_queue"):
        connection.execute(text(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"))
    unfinished = connection.scalar(text("SELECT count(*) FROM darkroom.job_queue")) or 0
    if unfinished:
        raise ModeChangeError(known.mode, mode, unfinished)
    return mode


def record_triggers(connection: Connection) -> None:
    """Record the triggers that exist now, so that a later loss is noticed and can be repaired.

    A tool that rebuilds a table (rename, copy, drop) silently drops our triggers with the old one.
    """
    record(connection, "triggers", standing_triggers(connection))


def standing_triggers(connection: Connection) -> dict[str, str]:
    """Return the definitions of the triggers of ours that the application's tables have now, by `table.trigger`."""
    with names_in_full(connection):
        return {name: definition for name, definition, _ in connection.execute(TRIGGERS)}


def value_of(connection: Connection, key: str) -> Any:
    """Return the value of one recorded setting; None where nothing is recorded."""
    value = connection.scalar(text("SELECT value::text FROM darkroom.settings WHERE key = :key"), {"key": key})
    return None if value is None else json.loads(value)
