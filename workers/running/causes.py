"""The errors of attempts, in words for a job's row, and as codes for error_logs."""

import errno
import os
import re

import asyncpg

from pipelines.errors import PolicyRefusedError


def what_lacks(error: Exception) -> str:
    """Return what this machine or PostgreSQL refused, in words fit for a job's row: no path, no statement."""
    if isinstance(error, MemoryError):
        return "not enough memory"
    if (name := _errno_name(error)) is not None:
        return f"{os.strerror(getattr(errno, name))} ({name})"
    if isinstance(error, asyncpg.QueryCanceledError):
        return "PostgreSQL cancelled a statement"
    return f"unexpected {type(error).__name__}"


def error_code(error: Exception) -> str:
    """Return the code of an error in error_logs.

    It is the provider's policy that refused, PostgreSQL's SQLSTATE, the operating system's name of the error, or else
    the name of the error's type.
    """
    if isinstance(error, PolicyRefusedError):
        return error.category
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate:
        return str(error.sqlstate)
    if (name := _errno_name(error)) is not None:
        return name
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).upper()


def _errno_name(error: Exception) -> str | None:
    """Return the name of the operating system's error number, such as EMFILE; None if the error has none."""
    number = error.errno if isinstance(error, OSError) else None
    return None if number is None else errno.errorcode.get(number)
