"""Errors of migrations that were refused."""

from collections.abc import Sequence


class MigrationError(Exception):
    """Base of the errors with which a migration is refused; the database is unchanged."""


class ModeRequiredError(MigrationError):
    """Raised when another tool made the tables and the mode of money is neither given nor recorded."""

    def __init__(self) -> None:
        super().__init__(
            "these tables were made by another tool, so who charges for a job can't be guessed: give the mode of "
            "money, managed (Darkroom charges and refunds), producer (the application charges, Darkroom refunds its "
            "own failures) or external (Darkroom never touches money)"
        )


class ModeChangeError(MigrationError):
    """Raised when the mode of money would change while jobs are queued, which were charged under the old mode."""

    def __init__(self, before: str, after: str, unfinished: int) -> None:
        super().__init__(
            f"the mode of money can't change from {before} to {after} while {unfinished} jobs are unfinished: "
            "stop the producers, let the queue run empty or cancel what is left, then upgrade again"
        )


class InvalidSettingError(MigrationError):
    """Raised when a value that is to be recorded is one that the triggers can't work with."""


class UnusableSchemaError(MigrationError):
    """Raised when another tool's tables lack what Darkroom reads and writes.

    Attributes:
        faults: one sentence each, naming table and column.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("the tables in schema public can't be used: " + "; ".join(self.faults))


class UnrelatedRelationsError(MigrationError):
    """Raised when `public` has another program's relations, and nobody asked to make the application's tables there."""

    def __init__(self, found: Sequence[str], would_be_made: Sequence[str]) -> None:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""  # noqa: PLR2004 - a few tell which database it is
        super().__init__(
            f"schema public holds {', '.join(found[:5])}{more}, and no table users of an application that Darkroom "
            f"could work for; these tables would be made beside them: {', '.join(would_be_made)}; run `darkroom db "
            "upgrade --with-application` to make them, or correct DATABASE_URL"
        )


class ApplicationError(MigrationError):
    """Raised when an application is unknown, doesn't fit the database, or can't be given up yet.

    Attributes:
        lines: one line for each fault of a file, as people read them; empty where the message says it all.
    """

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        self.lines = tuple(lines)
        super().__init__(message)


class HiddenRowsError(MigrationError):
    """Raised when row-level security hides rows from Darkroom, which would treat them as deleted."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))


class NewerDatabaseError(MigrationError):
    """Raised when a newer Darkroom has migrated the database; only that release, or a later one, may migrate it."""


class UnsupportedServerError(MigrationError):
    """Raised when the PostgreSQL server is too old for our SQL."""


class DatabaseBusyError(MigrationError):
    """Raised when another program held a table's lock, or the migration lost a deadlock, too many times."""

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"another transaction held a lock that the migration needs, {attempts} times in a row: "
            "end long transactions on the application's tables (see pg_stat_activity), then upgrade again"
        )


class TableLockedError(MigrationError):
    """Raised when an idle transaction holds a table's lock.

    Waiting for the lock would block every later transaction.
    """

    def __init__(self, table: str, holders: Sequence[int]) -> None:
        pids = ", ".join(str(pid) for pid in holders)
        super().__init__(
            f"table {table} is held by a transaction that is idle (process {pids} of PostgreSQL): end it, then upgrade "
            "again"
        )


class DependentObjectError(MigrationError):
    """Raised when another program's object depends on one of ours that has to be dropped and made anew."""

    def __init__(self, label: str, detail: str) -> None:
        super().__init__(
            f"{label} has to be dropped and made anew, and something that isn't Darkroom's is built on it: {detail}; "
            "drop that, upgrade, then make it again"
        )


class ColumnTypeError(MigrationError):
    """Raised when a column of ours has another type and can't be changed back."""

    def __init__(self, label: str, wanted: str, found: str, detail: str) -> None:
        super().__init__(
            f"{label} is {found}, not {wanted}, and PostgreSQL can't change it back: {detail}; change what stands in "
            "the way, then upgrade again"
        )


class RoleNotFoundError(MigrationError):
    """Raised when a grant names a role that doesn't exist."""

    def __init__(self, role: str) -> None:
        super().__init__(f"there is no role {role!r} to grant to: create it first, or correct the name")


class RoleNotGrantedError(MigrationError):
    """Raised when rights are to be taken from a role that none were granted to."""

    def __init__(self, role: str, granted: Sequence[str]) -> None:
        there = f"rights were granted to {', '.join(granted)}" if granted else "no role has any"
        super().__init__(f"db upgrade granted no rights to role {role!r}; {there}")


class RightsMissingError(MigrationError):
    """Raised when the role of DATABASE_URL lacks rights that Darkroom needs; the message names them."""


class NotReadyError(MigrationError):
    """Raised when the database wasn't migrated within a time limit.

    Attributes:
        faults: what was still wrong at the last look.
    """

    def __init__(self, waited_s: float, faults: Sequence[str]) -> None:
        self.faults = tuple(faults)
        super().__init__(f"the database isn't ready after {waited_s:g} s: " + "; ".join(self.faults))
