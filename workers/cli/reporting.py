"""Messages for all errors: one line each that says what to do. Imported only once there is an error to report."""

import os
import sys

import asyncpg
import typer

from config.log import configure_logging, default_format, is_configured
from config.logger import EventLogger
from config.postgres_url import parse_postgres_url
from config.settings import SettingsError
from models.applications.recorded import ApplicationMismatchError
from models.connections import DatabaseLostError, contention_of, is_cancelled
from models.database_message import database_message
from models.schema.migrations.errors import DatabaseBusyError, MigrationError, ModeChangeError, ModeRequiredError
from pipelines.errors import StageError, StorageUnavailableError
from pipelines.settings import Settings
from pipelines.storage.backends import storage_place
from workers.cli.failures import FAILED, USAGE, CommandError
from workers.cli.usage_message import usage_message
from workers.operations.errors import OperationError
from workers.process.runtime import ModeMismatchError
from workers.services.errors import EmbeddedServiceError

log = EventLogger(__name__)


def explain(error: Exception) -> tuple[int, str]:
    """Return the exit code for an error, and the line that says what to do about it."""
    if isinstance(error, CommandError):
        return error.exit_code, str(error)
    for look in (_explain_usage, _explain_ours, _explain_database, _explain_system):
        if (found := look(error)) is not None:
            return found
    text = " ".join(str(error).split())
    return FAILED, f"something went wrong that shouldn't: {text}; run it again with --debug, and report what it shows"


def _explain_usage(error: Exception) -> tuple[int, str] | None:
    if not isinstance(error, typer.TyperException):
        return None
    return getattr(error, "exit_code", USAGE), usage_message(error)


def _explain_ours(error: Exception) -> tuple[int, str] | None:
    if isinstance(error, StorageUnavailableError):
        url = os.environ.get("STORAGE_URL", "").strip()
        place = f" ({storage_place(url)})" if url else ""
        return FAILED, f"{error}{place}; check STORAGE_URL and its rights, or run `darkroom doctor`"
    if isinstance(error, OperationError | StageError):
        return FAILED, str(error)
    if isinstance(error, SettingsError | EmbeddedServiceError | ModeMismatchError | ApplicationMismatchError):
        return USAGE, str(error)
    if isinstance(error, ModeRequiredError):
        return USAGE, f"{error}; for example `TOKENS=producer darkroom db upgrade`"
    if isinstance(error, MigrationError):
        return FAILED if isinstance(error, DatabaseBusyError | ModeChangeError) else USAGE, str(error)
    return None


def _explain_database(error: Exception) -> tuple[int, str] | None:
    # SQLAlchemy keeps the driver's error in `orig`; checking the error's class would import SQLAlchemy for every error
    original = getattr(error, "orig", None)
    cause: BaseException = error if original is None else original.__cause__ or original
    is_lost = isinstance(cause, DatabaseLostError | asyncpg.PostgresConnectionError | asyncpg.InterfaceError)
    if isinstance(cause, DatabaseLostError):
        cause = cause.__cause__ or cause
    cause = contention_of(cause) or cause
    text = str(cause).strip().split("\n", 1)[0] or "it gives no reason"
    if contention_of(cause):
        return FAILED, f"another transaction holds a lock that this needs ({text}); try again in a moment"
    if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidCatalogNameError):
        return USAGE, f"{database_place()} refuses: {text}; check DATABASE_URL"
    if isinstance(cause, asyncpg.InsufficientPrivilegeError):
        return FAILED, f"PostgreSQL refuses: {text}; use the role that ran `darkroom db upgrade`"
    if is_lost:
        what = f"{database_place()} {database_message(cause)}"
        return FAILED, f"{what}; check DATABASE_URL and the server, or run `darkroom doctor`"
    if isinstance(cause, asyncpg.PostgresError):
        is_late = is_cancelled(cause)
        advice = "give its role a longer statement_timeout, or try again" if is_late else "run `darkroom doctor`"
        return FAILED, f"PostgreSQL refuses: {text} (SQLSTATE {cause.sqlstate}); {advice}"
    return None


def _explain_system(error: Exception) -> tuple[int, str] | None:
    if not isinstance(error, OSError):
        return None
    text = str(error).strip().split("\n", 1)[0] or "it gives no reason"
    if error.filename is None:  # a socket, a child process, a limit of this machine, or stdout
        return FAILED, f"the operating system refuses: {error.strerror or text}"
    return FAILED, f"{error.filename}: {error.strerror or text}; check the path and its rights"


def database_place() -> str:
    """Return host and database of the PostgreSQL that a command works on, never with its password."""
    url = os.environ.get("DATABASE_URL", "").strip()
    try:
        return f"PostgreSQL at {parse_postgres_url(url).place}" if url else "the embedded PostgreSQL"
    except ValueError:
        return "PostgreSQL"


def logged(line: str, code: int) -> bool:
    """Log why `up`, `worker` or `scheduler` ended, if its log lines are JSON; return whether it was logged."""
    if (os.environ.get("LOG_FORMAT") or default_format(sys.stderr)) != "json":
        return False
    if not is_configured():  # the settings themselves are the cause
        configure_logging(Settings(log_format="json"))
    log.error("command_failed", error=line, exit_code=code)
    return True
