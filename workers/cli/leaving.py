"""How a command ends after a signal: it stops its workers and services before it ends, and no signal is lost."""

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

AGAIN_S: Final = 0.05
"""Seconds after which an interrupt that was swallowed is sent again."""

FINISH_S: Final = 1.0
"""How long what is begun may go on after a Ctrl-C."""

cancels: Final[list[Callable[[], bool]]] = []
"""Functions that cancel the running coroutine; each returns whether it did (False if it was cancelled before)."""


@contextmanager
def signals_heard() -> Iterator[list[int]]:
    """Handle SIGTERM and SIGHUP like a Ctrl-C during the context; yield the list of those received.

    So the command stops its workers and embedded services before it ends. A Ctrl-C stays ignored if this process was
    started with it ignored, as a script's background process is, and so does a SIGHUP, as under nohup.
    """
    came: list[int] = []
    # Read only now, because a command may ignore SIGINT later, while it ends
    ignores_interrupts = signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    def terminate(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        if not ignores_interrupts:
            signal.raise_signal(signal.SIGINT)
        elif not (cancels and cancels[-1]()):
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, terminate)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    hook = sys.unraisablehook
    is_over = threading.Event()

    def resend() -> None:
        if not is_over.is_set():
            number = came[-1] if came else signal.SIGINT
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    def note_swallowed(unraisable: Any) -> None:
        """Interrupt again after a KeyboardInterrupt that a destructor or a callback of C code couldn't pass on."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            timer = threading.Timer(AGAIN_S, resend)
            timer.daemon = True
            timer.start()
        else:
            hook(unraisable)

    sys.unraisablehook = note_swallowed
    try:
        yield came
    finally:
        is_over.set()
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


async def finished(work: Coroutine[Any, Any, None]) -> None:
    """Run work that shouldn't be interrupted: after a Ctrl-C it may continue for FINISH_S, and is then cancelled."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task}, timeout=FINISH_S)
        task.cancel()
        await asyncio.wait({task})
        raise
