"""Standard output, whose write errors need messages different from those of files, sockets and the database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from workers.cli.failures import CommandError


class OutputError(CommandError):
    """Raised when standard output can't be written."""


class _Output:
    """A stream that raises OutputError if it can't be written.

    If the program that reads the stream has closed it, BrokenPipeError is raised unchanged.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._refusals_named():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._refusals_named():
            self._stream.flush()

    @contextmanager
    def _refusals_named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"what was to be printed can't be written: {error.strerror}") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_closed_streams() -> None:
    """Open on the null device whatever of stdin, stdout and stderr the caller has closed.

    Otherwise printing fails, and the next file that is opened gets the closed stream's descriptor, so that every child
    process would take that file for the stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # it may get the closed stream's own descriptor
            os.dup2(null, number)
            os.set_inheritable(number, True)  # noqa: FBT003 - the standard library's own
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


@contextmanager
def report_written() -> Iterator[None]:
    """Keep the exit code unchanged if stderr can't be written to, because no message could explain another one."""
    try:
        yield
    finally:
        try:
            sys.stderr.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@contextmanager
def printed_output() -> Iterator[None]:
    """Raise OutputError for write errors of stdout during the context."""
    before = sys.stdout
    sys.stdout = cast("TextIO", _Output(before))
    try:
        yield
    except OutputError:
        # The interpreter's flush at exit must not fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), before.fileno())
        raise
    finally:
        sys.stdout = before
