"""Messages between the pool and a child: pipes with a deadline, and a reader that trusts no answer."""

import io
import os
import pickle
import select
import time
from typing import Any

from typing_extensions import override

from pipelines.imaging.child import LENGTH_BYTES

MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""The pixels of 64 megapixels are 192 MB; an honest answer is a JPEG of a few."""

_CHUNK_BYTES = 1024 * 1024

_ALLOWED_GLOBALS = frozenset(
    {
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy._core.numeric", "_frombuffer"),
    }
)
"""Pickles of arrays and scalars name these globals in numpy 2.4."""


class ChildGoneError(Exception):
    """Raised when the other end of a pipe is closed."""


class DeadlineError(Exception):
    """Raised when the other end of a pipe doesn't read or answer in time."""


class ForeignAnswerError(Exception):
    """Raised when an answer is too large, or holds something that a child may not send."""


def send(pipe: int, message: Any, deadline: float) -> None:
    """Write one message to a non-blocking pipe.

    Args:
        pipe: a file descriptor.
        message: anything that can be pickled.
        deadline: when the message must be written, in seconds of `time.monotonic`.

    Raises:
        ChildGoneError: the other process has closed the pipe.
        DeadlineError: the reader didn't take it in time.
    """
    body = pickle.dumps(message, protocol=5)
    for part in (len(body).to_bytes(LENGTH_BYTES, "big"), body):
        view = memoryview(part)
        while view:
            _wait(pipe, select.POLLOUT, deadline)
            try:
                view = view[os.write(pipe, view[:_CHUNK_BYTES]) :]
            except BrokenPipeError as error:
                raise ChildGoneError from error


def receive(pipe: int, deadline: float) -> Any:
    """Read one message from a non-blocking pipe.

    Raises:
        ChildGoneError: the writer ended before the message was whole.
        DeadlineError: the message isn't whole in time.
        ForeignAnswerError: the message is too large, or holds types that a child may not send.
    """
    size = int.from_bytes(_read_exactly(pipe, LENGTH_BYTES, deadline), "big")
    if size > MAX_ANSWER_BYTES:
        raise ForeignAnswerError(f"an answer of {size:,} bytes; the limit is {MAX_ANSWER_BYTES:,}")
    body = _read_exactly(pipe, size, deadline)
    try:
        return _AnswerUnpickler(io.BytesIO(body)).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, TypeError, ValueError) as error:
        raise ForeignAnswerError(str(error)) from error


def _read_exactly(pipe: int, size: int, deadline: float) -> bytearray:
    body = bytearray(size)
    view = memoryview(body)
    while view:
        _wait(pipe, select.POLLIN, deadline)
        count = os.readv(pipe, [view[:_CHUNK_BYTES]])
        if not count:
            raise ChildGoneError
        view = view[count:]
    return body


def _wait(pipe: int, events: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(pipe, events)
    left_s = deadline - time.monotonic()
    if not poll.poll(max(0.0, left_s) * 1000):
        raise DeadlineError


class _AnswerUnpickler(pickle.Unpickler):
    """Unpickles plain values, numpy arrays and classes of ours only.

    A decoder that a hostile picture has taken over must not run code in the worker.
    """

    @override
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Return a class that a child may send.

        Raises:
            pickle.UnpicklingError: any other name, above all every function.
        """
        if (module_name, global_name) in _ALLOWED_GLOBALS:
            return super().find_class(module_name, global_name)
        if module_name.startswith("pipelines.") and "." not in global_name:
            found = super().find_class(module_name, global_name)
            if isinstance(found, type) and found.__module__ == module_name:
                return found
        raise pickle.UnpicklingError(f"{module_name}.{global_name} may not come from a pixel child")
