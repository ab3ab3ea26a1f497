"""How a command is left when a signal says so: in order, and for certain."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

AGAIN_S: Final = 0.05
"""How long after an interrupt that was swallowed it is sent again."""

cancels: Final[list[Callable[[], bool]]] = []
"""What cancels the coroutine that runs, and returns whether it did: False if it was cancelled before."""


@contextmanager
def signals_heard() -> Iterator[list[int]]:
    """Take SIGTERM and SIGHUP for a Ctrl-C as long as the context lasts; yield those that come.

    Embedded services and workers of ours are stopped in order then. Ctrl-C itself is ignored in a script's background,
    where it is meant for others, and a SIGHUP that nohup has us ignore stays ignored.
    """
    came: list[int] = []
    # not looked at later, when a command may ignore it to end
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
        """Interrupt again where a destructor or a callback of C code could not pass the interrupt on."""
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
