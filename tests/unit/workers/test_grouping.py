"""Statements that are made together: none is lost, whatever becomes of the job that waits for it or of its group."""

import asyncio

import pytest

from models.connections import ContentionError
from workers.grouping import Group


class Statements:
    """Statements of a test: those of a group wait until `go` is set, and their results are their work."""

    def __init__(self, error=None, results=None):
        self.error, self.results, self.go = error, results, asyncio.Event()
        self.made, self.alone, self.abandoned = [], [], []

    async def together(self, works):
        await self.go.wait()
        if self.error is not None:
            raise self.error
        self.made += works
        return works if self.results is None else self.results

    async def one(self, work):
        self.alone.append(work)
        return work

    async def take_back(self, result):
        self.abandoned.append(result)


async def turns(number=20):
    for _ in range(number):
        await asyncio.sleep(0)


async def test_answer_of_the_turn_in_which_its_job_is_cancelled_is_abandoned():
    statements, waiting = Statements(), []

    async def answered_and_cancelled(works):
        asyncio.get_running_loop().call_soon(waiting[0].cancel)  # the loop runs it before the job goes on
        return works

    group = Group(answered_and_cancelled, statements.one, abandoned=statements.take_back)
    waiting.append(asyncio.create_task(group.add("intent")))
    await asyncio.wait(waiting, timeout=5)
    await turns()

    assert waiting[0].cancelled()
    assert statements.abandoned == ["intent"]


async def test_statement_that_is_never_abandoned_is_made_for_a_cancelled_job():
    statements = Statements()
    group = Group(statements.together, statements.one)
    adding = [asyncio.create_task(group.add("first"))]
    await turns()
    adding += [asyncio.create_task(group.add(work)) for work in ("second", "third")]
    await turns()
    adding[1].cancel()
    statements.go.set()
    await asyncio.wait(adding, timeout=5)
    await turns()

    assert statements.made == ["first", "second", "third"]


async def test_each_of_a_group_that_a_lock_stops_goes_alone():
    statements = Statements(error=ContentionError("a row is held"))
    statements.go.set()
    group = Group(statements.together, statements.one)
    async with asyncio.timeout(5):
        results = await asyncio.gather(group.add("first"), group.add("second"))

    assert (results, statements.alone) == (["first", "second"], ["first", "second"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_a_bug_leaves_without_an_answer_fails():
    statements = Statements(results=[])
    statements.go.set()
    group = Group(statements.together, statements.one)
    async with asyncio.timeout(5):
        results = await asyncio.gather(group.add("first"), group.add("second"), return_exceptions=True)

    assert [type(one) for one in results] == [RuntimeError, RuntimeError]
