"""The supervisor's loop, without any worker process."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from typing_extensions import override

from models.connections import DatabaseLostError
from pipelines.settings import Settings
from tests.support.patience import HANGS_AFTER_S
from workers.process.supervisor import WorkerProcesses
from workers.services.services import Services

URLS = ("postgresql://nobody.invalid/x",) * 2 + ("redis://nobody.invalid",) * 2 + ("file:///nowhere",)
SERVICES = Services(*URLS, is_embedded=False)


class Workers(WorkerProcesses):
    """No process, which passes for one that lives."""

    @property
    @override
    def pids(self) -> list[int]:
        return [os.getpid()]


@pytest.fixture
def workers() -> Iterator[Workers]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield Workers(Settings(), SERVICES, processes=0)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_is_heard_while_a_look_at_the_queues_takes_long(workers: Workers) -> None:
    is_over = threading.Event()

    def look() -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        is_over.wait(HANGS_AFTER_S)
        return True

    code = workers.run_forever(lambda: None, look)

    assert (code, is_over.is_set()) == (0, False)
    is_over.set()


def test_database_that_is_lost_while_the_queues_are_looked_at_ends_the_loop(workers: Workers) -> None:
    def look() -> bool:
        raise DatabaseLostError(OSError("gone"))

    with pytest.raises(DatabaseLostError):
        workers.run_forever(lambda: None, look)
