"""Calls that miss the request: there is no third call after the same miss, and the job's error names what came."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest

from models.gate.provider_calls import CallOutcome, CallPlan, close_call, open_call
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BrokenAnswerError,
    OneColourError,
    QuotaSpentError,
    ThrottledError,
    WrongShapeError,
    WrongSizeError,
)
from pipelines.job import Prompt
from pipelines.settings import Settings
from tests.support.builders import make_claim
from tests.support.scripted_provider import ScriptedProvider
from workers.gate.gate import Gate
from workers.gate.paid_calls import Generations, RepeatedMissError, TooManyPaidCallsError
from workers.running.job import RunningJob

PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)


def drawing(*errors, name="gemini", model="m"):
    """Return a paid provider whose calls end as a test says, one after the other; then they give a picture."""
    return ScriptedProvider(*errors, b"picture", name=name, model=model)


async def generate(database, claim, *providers, most=3):
    gate = Gate(database, providers, providers[0], Settings())
    job = RunningJob(claim)
    earlier = await Generations(database).of(claim)
    return await gate.for_job(job, most_paid_calls=most, earlier=earlier).generate(PROMPT, [], 1024, 1.0)


async def attempt(database, claim, *providers, error, **more):
    with pytest.raises(error) as caught:
        await generate(database, claim, *providers, **more)
    return caught.value


async def test_second_miss_of_a_kind_ends_the_job_and_no_third_is_bought(database):
    claim = await make_claim(database)
    gemini = drawing(WrongSizeError("m: 64 x 48"), WrongSizeError("m: 65 x 49"), WrongSizeError("m"))
    first = await attempt(database, claim, gemini, error=WrongSizeError)
    second = await attempt(database, claim, gemini, error=RepeatedMissError)
    again = await attempt(database, claim, gemini, error=RepeatedMissError)

    assert (first.is_paid, gemini.sent) == (True, 2)
    assert str(second) == str(again) == "m: 65 x 49; it came twice, so it isn't bought a third time"


async def test_call_that_was_open_when_the_run_began_counts_as_it_has_ended_since(database):
    claim = await make_claim(database)
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", images=1)
    opened = await database.run(partial(open_call, claim=claim, plan=plan))
    earlier = await Generations(database).of(claim)
    gemini = drawing()
    gate = Gate(database, [gemini], gemini, Settings())
    provider = gate.for_job(RunningJob(claim), most_paid_calls=1, earlier=earlier)
    with pytest.raises(TooManyPaidCallsError):
        await provider.generate(PROMPT, [], 1024, 1.0)

    unsent = CallOutcome("cut_off", may_be_paid=False, latency_ms=0, was_sent=False)
    await database.run(partial(close_call, intent=opened.intent, outcome=unsent, rules={}))

    assert (await provider.generate(PROMPT, [], 1024, 1.0)).value.data == b"picture"


async def test_picture_that_misses_the_request_is_not_kept_for_the_next_run(database):
    gate = Gate(database, [gemini := drawing(WrongSizeError("m: 64 x 48"))], gemini, Settings())
    job = RunningJob(await make_claim(database))

    with pytest.raises(WrongSizeError):
        await gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 1024, 1.0)
    assert job.answer is None

    answer = await gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 1024, 1.0)
    assert job.answer is answer


async def test_misses_of_two_kinds_are_two_misses(database):
    claim = await make_claim(database)
    gemini = drawing(WrongSizeError("small"), OneColourError("black"))
    await attempt(database, claim, gemini, error=WrongSizeError)
    await attempt(database, claim, gemini, error=OneColourError)

    assert (await generate(database, claim, gemini)).value.data == b"picture"


async def test_answers_without_a_picture_may_come_twice(database):
    claim = await make_claim(database)
    gemini = drawing(BrokenAnswerError("text"), BrokenAnswerError("text"))
    for _ in range(2):
        await attempt(database, claim, gemini, error=BrokenAnswerError)

    assert (await generate(database, claim, gemini)).value.data == b"picture"


async def test_another_provider_is_asked_after_a_second_miss(database):
    claim = await make_claim(database)
    gemini, openai = drawing(*[WrongShapeError("square")] * 3), drawing(name="openai", model="other")
    await attempt(database, claim, gemini, openai, error=WrongShapeError)
    answer = await generate(database, claim, gemini, openai)

    assert (answer.model, gemini.sent, openai.sent) == ("other", 2, 1)


async def test_misses_of_another_job_or_model_count_for_nobody_else(database):
    first, second = await make_claim(database), await make_claim(database)
    misses = [WrongShapeError("square")] * 3
    await attempt(database, first, drawing(*misses), error=WrongShapeError)
    await attempt(database, second, drawing(*misses), error=WrongShapeError)
    await attempt(database, first, drawing(*misses, model="other"), error=WrongShapeError)

    assert (await generate(database, second, drawing())).value.data == b"picture"


async def test_job_whose_paid_calls_are_used_up_says_what_came_back(database):
    claim = await make_claim(database)
    words = "gemini answered with no picture (finish reason NO_IMAGE)"
    gemini = drawing(BrokenAnswerError(words), BrokenAnswerError("a page"), BrokenAnswerError(words))
    for _ in range(3):
        await attempt(database, claim, gemini, error=BrokenAnswerError)
    ended = await attempt(database, claim, gemini, error=TooManyPaidCallsError)

    assert str(ended) == (
        f"{words} (2 times); a page; 3 generate calls may have been paid for this job; its limit is 3"
    )


async def test_calls_without_words_are_named_too(database):
    claim = await make_claim(database)
    plan = CallPlan("gemini", "generate", may_be_paid=True, model="m")
    for end in (None, "answered", "cut_off"):
        opened = await database.run(lambda connection: open_call(connection, claim, plan))
        if end:
            outcome = CallOutcome(end, may_be_paid=True, latency_ms=1)
            await database.run(
                lambda connection, opened=opened, outcome=outcome: close_call(connection, opened.intent, outcome)
            )
    ended = await attempt(database, claim, drawing(), error=TooManyPaidCallsError)

    assert str(ended).startswith(
        "a call whose end nobody knows; a picture that was lost before it was stored; a call that was cut off; 3 "
    )


async def test_what_came_back_stands_beside_its_call_within_bounds(database):
    claim = await make_claim(database)
    await attempt(database, claim, drawing(BrokenAnswerError("no\0" * 1000)), error=BrokenAnswerError)

    row = await database.fetchrow("SELECT outcome, problem, may_be_paid FROM darkroom.provider_calls")
    assert (row["outcome"], len(row["problem"]), row["may_be_paid"]) == ("BrokenAnswerError", 500, True)


async def test_spent_account_holds_everybody_back_and_passes_over_to_the_next(database):
    first, second = await make_claim(database), await make_claim(database)
    spent = QuotaSpentError("openai 429: the account is spent", retry_after=timedelta(seconds=301))
    openai, gemini = drawing(spent, name="openai"), drawing()
    await attempt(database, first, openai, error=ThrottledError)
    held = await attempt(database, second, openai, error=ThrottledError)
    answer = await generate(database, second, openai, gemini)

    assert openai.sent == 1
    assert held.retry_after > timedelta(minutes=4)
    assert answer.value.data == b"picture"
    assert not await database.fetchval("SELECT may_be_paid FROM darkroom.provider_calls WHERE provider = 'openai'")


async def test_calls_of_jobs_that_ask_at_once_are_read_by_one_statement_and_not_mixed(database, monkeypatch):
    claims = [await make_claim(database) for _ in range(3)]
    gemini = drawing(WrongSizeError("small"), WrongSizeError("small"))
    await attempt(database, claims[1], gemini, error=WrongSizeError)
    await attempt(database, claims[1], gemini, error=RepeatedMissError)
    statements = []
    monkeypatch.setattr(database, "run", recorded(database.run, statements))
    reader = Generations(database)

    read = await asyncio.gather(*(reader.of(claim) for claim in claims))

    assert [[one.problem for one in calls] for calls in read] == [[], ["small", "small"], []]
    assert len(statements) == 1


def recorded(run, statements):
    def run_and_record(work):
        statements.append(work)
        return run(work)

    return run_and_record
