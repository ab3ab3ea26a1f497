"""Operators' files that describe applications, as a migration reads and tries them."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, TypeVar, cast

from sqlalchemy import Connection, text
from sqlalchemy.engine.interfaces import AdaptedConnection

from config.application_names import Entry, parse_entry
from models.applications.files import faults as of_files
from models.applications.files.creators import creators_fault
from models.applications.files.file import read
from models.schema.migrations.errors import ApplicationError

T = TypeVar("T")

MOST_BYTES: Final = 1_000_000
"""The largest file that is read; every sensible one has some kilobytes."""


def text_of(path: str) -> str:
    """Return the text of a file.

    Raises:
        ApplicationError: it can't be read, is too large, or isn't UTF-8.
    """
    name = PurePath(path).name
    try:
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ApplicationError(f"{name}: {(error.strerror or str(error)).lower()}: {path}") from error
    if len(data) > MOST_BYTES:
        raise ApplicationError(f"{name}: more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ApplicationError(f"{name}: byte {error.start + 1} isn't UTF-8") from error


def described(connection: Connection, entry: Entry) -> Mapping[str, Any]:
    """Return what is recorded of the application that a file describes.

    Raises:
        ApplicationError: the file can't be read, or has faults.
    """
    return _described(connection, entry, text_of(entry.path))


def described_again(connection: Connection, recorded: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what is recorded of an application whose file is recorded, with what the database says of its tables now.

    Raises:
        ApplicationError: the recorded text has faults by now, or others may create in the schema.
    """
    return _described(connection, parse_entry(recorded["entry"]), recorded["source"])


def _described(connection: Connection, entry: Entry, source: str) -> Mapping[str, Any]:
    name = PurePath(entry.path).name
    lines = faults(connection, source, entry)
    if not lines and (creators := _run(connection, lambda driver: creators_fault(driver, entry.schema, name))):
        lines = [creators]
    if lines:
        raise ApplicationError("; ".join(lines), lines)
    facts = _run(connection, lambda driver: of_files.facts_of(driver, source, entry.schema))
    return {
        "entry": entry.text,
        "name": read(source)[0].name,
        "schema": entry.schema,
        "file": name,
        "source": source,
        "facts": facts,
    }


def faults(connection: Connection, source: str, entry: Entry) -> list[str]:
    """Return a line for each fault of a file's text; none if it is well. Nothing of its SQL is run."""
    name = PurePath(entry.path).name
    return _run(connection, lambda driver: of_files.faults(driver, source, name, entry.schema))


def differences(recorded: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence if the file of a recorded application differs from what is recorded, where it can be read."""
    path = parse_entry(recorded["entry"]).path
    try:
        differs = text_of(path) != recorded["source"]
    except ApplicationError:
        return  # on this machine there is no such file, and no process reads it
    if differs:
        yield f"{recorded['file']} differs from what is recorded, which holds until darkroom db upgrade"


def _run(connection: Connection, question: Callable[[Any], Awaitable[T]]) -> T:
    """Return what a question to asyncpg's own connection yields, in the migration's transaction."""
    connection.execute(text("SELECT 1"))  # SQLAlchemy's adapter begins its transaction only with its first statement
    adapted = cast("AdaptedConnection", connection.connection.dbapi_connection)
    return adapted.run_async(question)
