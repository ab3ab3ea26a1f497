"""Statements for many jobs: none is lost or repeated, whatever becomes of a job that waits for it or of its group."""

import asyncio

import pytest

from models import collector
from models.collector import PARTS, TURNS, Collector, Unanswered
from models.connections import ContentionError, DatabaseLostError
from tests.support.freed import require_freed, uncollected
from tests.support.patience import HANGS_AFTER_S

__all__ = ["uncollected"]


class Statements:
    """Statements of a test: those of a group wait until `go` is set, and their answers are the items."""

    def __init__(self, error=None, answers=None):
        self.error, self.answers, self.go = error, answers, asyncio.Event()
        self.made, self.alone, self.abandoned = [], [], []

    async def together(self, works):
        await self.go.wait()
        self.made.append(works)
        if self.error is not None:
            raise self.error
        return works if self.answers is None else self.answers(works)

    async def one(self, work):
        self.alone.append(work)
        return work

    async def take_back(self, result):
        self.abandoned.append(result)


def collected(statements, *, together=None, most=256, **policy):
    return Collector(together or statements.together, statements.one, most=most, turns=asyncio.Semaphore(2), **policy)


async def turns(number=20):
    for _ in range(number):
        await asyncio.sleep(0)


async def answers_of(items):
    async with asyncio.timeout(HANGS_AFTER_S):
        return await asyncio.gather(*(item.done for item in items), return_exceptions=True)


async def test_what_is_asked_while_a_statement_is_under_way_goes_with_the_next_up_to_the_most():
    statements = Statements()
    group = collected(statements, most=3)
    items = [group.add(0)]
    await turns()
    items += [group.add(number) for number in range(1, 6)]
    statements.go.set()

    assert await answers_of(items) == [0, 1, 2, 3, 4, 5]
    assert statements.made == [[0], [1, 2, 3], [4, 5]]


async def test_answer_of_the_turn_in_which_its_job_is_cancelled_is_abandoned():
    statements, waiting = Statements(), []

    async def answered_and_cancelled(works):
        asyncio.get_running_loop().call_soon(waiting[0].cancel)  # the loop runs it before the job goes on
        return works

    group = collected(statements, together=answered_and_cancelled, abandoned=statements.take_back)
    waiting.append(asyncio.create_task(group.ask("intent")))
    await asyncio.wait(waiting, timeout=HANGS_AFTER_S)
    await turns()

    assert waiting[0].cancelled()
    assert statements.abandoned == ["intent"]


async def test_cancelled_jobs_item_is_not_sent_or_its_answer_abandoned():
    statements = Statements()
    group = collected(statements, abandoned=statements.take_back)
    asking = [asyncio.create_task(group.ask("under way"))]
    await turns()
    asking += [asyncio.create_task(group.ask(work)) for work in ("waits", "stays")]
    await turns()
    for one in asking[:2]:
        one.cancel()
    statements.go.set()
    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.wait(asking)
        await turns()

    assert statements.made == [["under way"], ["stays"]]
    assert statements.abandoned == ["under way"]


async def test_statement_that_is_never_abandoned_is_made_for_a_cancelled_job():
    statements = Statements()
    group = collected(statements)
    asking = [asyncio.create_task(group.ask("first"))]
    await turns()
    asking += [asyncio.create_task(group.ask(work)) for work in ("second", "third")]
    await turns()
    asking[1].cancel()
    statements.go.set()
    await asyncio.wait(asking, timeout=HANGS_AFTER_S)
    await turns()

    assert statements.made == [["first"], ["second", "third"]]


async def test_each_of_a_group_that_a_lock_stops_goes_alone():
    statements = Statements(error=ContentionError("a row is held"))
    statements.go.set()
    group = collected(statements)
    async with asyncio.timeout(HANGS_AFTER_S):
        results = await asyncio.gather(group.ask("first"), group.ask("second"))

    assert (results, statements.alone) == (["first", "second"], ["first", "second"])


async def test_refused_group_is_split_until_the_refused_item_is_alone():
    def refuse_13(works):
        if 13 in works:
            raise ValueError("refused")
        return works

    statements = Statements(answers=refuse_13)
    statements.go.set()
    group = collected(statements)
    items = [group.add(number) for number in range(256)]

    assert await answers_of(items) == list(range(256))
    assert statements.alone == list(range(16))
    assert len(statements.made) == 1 + PARTS


async def test_no_more_parts_are_sent_at_once_than_there_are_turns():
    now, most = 0, 0

    async def together(works):
        nonlocal now, most
        if len(works) > 2:
            raise ValueError("refused")
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        return works

    group = collected(Statements(), together=together)
    await answers_of([group.add(number) for number in range(32)])

    assert most == 2


async def test_item_without_an_answer_goes_again_or_alone_as_its_statement_says():
    seen = []

    def answers(works):
        seen.extend(works)
        return [
            Unanswered.ALONE if seen.count(one) > 2 else Unanswered.AGAIN if one == "late" else one for one in works
        ]

    statements = Statements(answers=answers)
    statements.go.set()
    group = collected(statements)
    items = [group.add("late"), group.add("soon")]

    assert await answers_of(items) == ["late", "soon"]
    assert (statements.made, statements.alone) == ([["late", "soon"], ["late"], ["late"]], ["late"])


@pytest.mark.parametrize("repeats", [True, False])
async def test_group_whose_connection_is_lost_is_sent_again_or_fails_as_the_policy_says(monkeypatch, repeats):
    monkeypatch.setattr(collector, "DATABASE_GONE_S", 0)
    lost = DatabaseLostError(OSError("gone"))

    def answers(works):
        if len(statements.made) == 1:
            raise lost
        return works

    statements = Statements(answers=answers)
    statements.go.set()
    group = collected(statements, repeats_lost=repeats)

    expected = ["first", "second"] if repeats else [lost, lost]
    assert await answers_of([group.add("first"), group.add("second")]) == expected
    assert statements.alone == []


async def test_items_of_one_key_go_one_after_the_other():
    statements = Statements()
    group = collected(statements)
    items = [group.add("first", "key")]
    await turns()
    items += [group.add("second", "key"), group.add("other")]
    assert group.waiting("key") is items[1]
    statements.go.set()

    assert await answers_of(items) == ["first", "second", "other"]
    assert statements.made == [["first"], ["second", "other"]]


async def test_item_that_fails_takes_along_the_one_of_its_key_that_waits():
    refused = PermissionError("no")

    async def refuse(_work):
        raise refused

    statements = Statements(error=ValueError("refused"))
    group = Collector(statements.together, refuse, most=2, turns=asyncio.Semaphore(2))
    items = [group.add("first", "key")]
    await turns()
    items += [group.add("second", "key")]
    statements.go.set()

    assert await answers_of(items) == [refused, refused]
    assert (statements.made, group.waiting("key")) == ([["first"]], None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_a_bug_leaves_without_an_answer_fails():
    statements = Statements(answers=lambda _works: [])
    group = collected(statements)
    items = [group.add("first", "key"), group.add("second")]
    await turns()
    items += [group.add("later", "key"), group.add("other")]
    statements.go.set()

    assert [type(one) for one in await answers_of(items)] == [RuntimeError] * 4

    statements.answers = None
    assert await answers_of([group.add("after", "key")]) == ["after"]


async def refuse(_work):
    await asyncio.sleep(0)
    raise ContentionError("held")


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("concerning_all", [(), (ContentionError,)])
@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_job_whose_statement_fails_is_freed(concerning_all, is_cancelled):
    group = Collector(refuse, refuse, most=5, turns=asyncio.Semaphore(2), concerning_all=concerning_all)

    async def work(picture):
        asked = asyncio.create_task(group.ask(picture))
        if is_cancelled:
            await turns(TURNS)
            asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    await require_freed(work)
