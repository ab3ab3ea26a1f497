"""Why a migration was refused."""

from collections.abc import Sequence


class MigrationError(Exception):
    """The database was left as it was."""


class ModeRequiredError(MigrationError):
    """The tables are another tool's, and nobody said who charges for a job."""

    def __init__(self) -> None:
        super().__init__(
            "these tables were made by another tool, so who charges for a job can't be guessed: give the mode of "
            "money, managed (Darkroom charges and refunds), producer (the application charges, Darkroom refunds its "
            "own failures) or external (Darkroom never touches money)"
        )


class ModeChangeError(MigrationError):
    """The mode of money changes only while nothing is queued: a queued job was charged under the old one."""

    def __init__(self, before: str, after: str, unfinished: int) -> None:
        super().__init__(
            f"the mode of money can't change from {before} to {after} while {unfinished} jobs are unfinished: "
            "stop the producers, let the queue run empty or cancel what is left, then upgrade again"
        )


class InvalidSettingError(MigrationError):
    """A value to be recorded isn't one that the triggers could work with."""


class UnusableSchemaError(MigrationError):
    """Tables of another tool lack what Darkroom reads and writes.

    Attributes:
        faults: one sentence each, naming table and column.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the tables in schema public can't be used: " + "; ".join(self.faults))


class UnrelatedRelationsError(MigrationError):
    """`public` holds what isn't an application that Darkroom knows, and nobody asked for one beside it."""

    def __init__(self, found: Sequence[str], would_be_made: Sequence[str]) -> None:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004 - a few say which database it is
        super().__init__(
            f"schema public holds {', '.join(found[:5])}{more}, and no table users of an application that Darkroom "
            f"could work for; these tables would be made beside them: {', '.join(would_be_made)}; run `darkroom db "
            "upgrade --with-application` to make them, or correct DATABASE_URL"
        )


class HiddenRowsError(MigrationError):
    """Row-level security keeps rows from Darkroom, which would take them for deleted."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))


class NewerDatabaseError(MigrationError):
    """A newer Darkroom was here; only that one, or a later one, may migrate."""


class UnsupportedServerError(MigrationError):
    """The server is older than the SQL that we use."""


class DatabaseBusyError(MigrationError):
    """A table stayed locked by someone else, or the migration lost a deadlock, too many times."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"another transaction held a lock that the migration needs, {attempts} times in a row: "
            "end long transactions on the application's tables (see pg_stat_activity), then upgrade again"
        )


class TableHeldError(MigrationError):
    """Somebody holds a table and does nothing: to wait for it would stop everyone who comes later."""

    def __init__(self, table: str, holders: Sequence[int]) -> None:
        pids = ", ".join(str(pid) for pid in holders)
        super().__init__(
            f"table {table} is held by a transaction that is idle (process {pids} of PostgreSQL): end it, then upgrade "
            "again"
        )


class InTheWayError(MigrationError):
    """Something that isn't ours is built on what has to be dropped and made anew."""

    def __init__(self, label: str, detail: str) -> None:
        super().__init__(
            f"{label} has to be dropped and made anew, and something that isn't Darkroom's is built on it: {detail}; "
            "drop that, upgrade, then make it again"
        )


class ColumnTypeError(MigrationError):
    """A column of ours has another type, and can't be given its own again."""

    def __init__(self, label: str, wanted: str, found: str, detail: str) -> None:
        super().__init__(
            f"{label} is {found}, not {wanted}, and PostgreSQL can't change it back: {detail}; change what stands in "
            "the way, then upgrade again"
        )


class RoleNotFoundError(MigrationError):
    """A grant names a role that the server doesn't have."""

    def __init__(self, role: str) -> None:
        super().__init__(f"there is no role {role!r} to grant to: create it first, or correct the name")


class RightsMissingError(MigrationError):
    """The role of DATABASE_URL lacks rights that Darkroom needs; the message names them."""


class NotReadyError(MigrationError):
    """The database wasn't migrated within the time given.

    Attributes:
        faults: what was still wrong at the last look.
    """

    def __init__(self, waited_s: float, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"the database isn't ready after {waited_s:g} s: " + "; ".join(self.faults))
