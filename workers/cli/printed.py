"""Standard output, whose write errors are reported differently from those of files, sockets and the database."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from workers.cli.failures import CommandError


class OutputError(CommandError):
    """Standard output can't be written."""


class _Output:
    """A stream that says in our words that it can't be written; a reader that has left passes as it is."""

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


@contextmanager
def printed_output() -> Iterator[None]:
    """Name refusals of stdout for as long as the context lasts."""
    before = sys.stdout
    sys.stdout = cast("TextIO", _Output(before))
    try:
        yield
    except OutputError:
        # the interpreter's own flush at exit must not complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), before.fileno())
        raise
    finally:
        sys.stdout = before
