"""Watching of jobs: a cancellation ends it, whatever arrives at the same moment."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from models.queue.progress import JobProgress
from tests.support.patience import HANGS_AFTER_S
from workers.operations import watching


async def test_watching_cancelled_as_a_notification_comes_in_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: asyncio.Queue[Callable[[], None]] = asyncio.Queue()

    async def listen(*_: object, **told: Any) -> None:
        begun.put_nowait(told["begun"])
        await asyncio.Event().wait()

    async def run(_: object) -> list[JobProgress]:
        return [JobProgress("j", status="PENDING")]

    async def watch() -> None:
        async for _ in watching.watch_jobs(SimpleNamespace(database=SimpleNamespace(run=run)), ["j"]):  # type: ignore[arg-type]
            pass

    monkeypatch.setattr(watching, "listen", listen)
    task = asyncio.create_task(watch())
    notify = await begun.get()
    await asyncio.sleep(0.01)  # it waits for a notification now
    notify()
    await asyncio.sleep(0)  # the notification is heard, and its waiter not yet woken
    task.cancel()

    done, _ = await asyncio.wait([task], timeout=HANGS_AFTER_S)
    task.cancel()

    assert done
    assert task.cancelled()
