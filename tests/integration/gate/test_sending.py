"""From admission to the first byte: an admitted call is sent at once, or checked once more."""

import asyncio
from datetime import timedelta

import pytest

from models.connections import DatabaseLostError
from models.gate.provider_calls import CallOutcome, CallPlan, close_call, open_call
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import BrokenAnswerError, ProviderUnavailableError, ThrottledError
from pipelines.job import Prompt
from pipelines.options import AnalysisOptions
from pipelines.providers.provider import EncodedImage
from pipelines.providers.remote import RemoteCaller
from pipelines.settings import Settings
from tests.support.builders import make_claim
from tests.support.fake_gemini.server import FakeGemini
from tests.support.scripted_provider import ScriptedProvider, asking_again
from workers.gate.gate import Gate
from workers.gate.open_calls import SENT_WITHIN_S
from workers.gate.paid_calls import TooManyPaidCallsError
from workers.gate.rules import rules_of
from workers.running.job import RunningJob

PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)
PAUSE_S = 30.0


def scripted(*script, **hooks):
    """Return a paid provider whose two steps do what a test says."""
    return ScriptedProvider(*script, **{"name": "gemini", "model": "m", **hooks})


async def asked(database, provider, **settings):
    """Ask as one job of a worker process does."""
    claim = await make_claim(database)
    gate = Gate(database, [provider], provider, Settings(**settings))
    job = RunningJob(claim)
    return await gate.for_job(job, most_paid_calls=3).generate(PROMPT, [], 1024, 1.0)


async def throttle(database):
    """Let another process's call end with a 429."""
    claim, rules = await make_claim(database), rules_of(Settings(), "gemini")
    plan = CallPlan("gemini", "generate", may_be_paid=True, rules=rules)
    opened = await database.run(lambda connection: open_call(connection, claim, plan))
    ended = CallOutcome("ThrottledError", may_be_paid=False, latency_ms=1, verdict="throttled", retry_after_s=PAUSE_S)
    await database.run(lambda connection: close_call(connection, opened.intent, ended, rules))


async def intents(database):
    rows = await database.fetch("SELECT outcome, was_sent FROM darkroom.provider_calls ORDER BY id")
    return [(row["outcome"], row["was_sent"]) for row in rows]


async def test_pause_that_comes_while_pictures_are_prepared_holds_the_call_back(database):
    provider = scripted(preparing=lambda _call: throttle(database))
    with pytest.raises(ThrottledError) as held:
        await asked(database, provider)

    assert provider.sent == 0
    assert timedelta(seconds=PAUSE_S - 1) < held.value.retry_after
    assert await intents(database) == [("ThrottledError", True)]  # the other process's, and none of ours


async def test_pause_that_comes_while_a_connection_is_made_holds_the_call_back_and_costs_nothing(database):
    async def slow():
        await throttle(database)
        await asyncio.sleep(SENT_WITHIN_S)

    provider = scripted(connecting=slow)
    with pytest.raises(ThrottledError) as held:
        await asked(database, provider, budgets="total_calls=1")

    assert provider.sent == 0
    assert timedelta(seconds=PAUSE_S - 2) < held.value.retry_after
    assert (await intents(database))[0] == ("ThrottledError", False)
    spent = await database.fetchval(
        "SELECT (state ->> 'calls')::integer FROM darkroom.limits WHERE scope = 'budget' AND window_start = 'epoch'"
    )
    assert spent == 1  # the other process's


async def test_slow_connection_goes_on_when_nobody_asked_to_be_left_alone(database):
    provider = scripted(connecting=lambda: asyncio.sleep(SENT_WITHIN_S))
    await asked(database, provider)

    assert provider.sent == 1
    assert await intents(database) == [("answered", True)]


async def test_no_picture_is_prepared_before_a_gate_that_is_shut(database):
    prepared = []

    async def note(_call):
        prepared.append(1)

    await throttle(database)
    with pytest.raises(ThrottledError):
        await asked(database, scripted(preparing=note))

    assert prepared == []


async def test_what_look_again_refuses_sends_no_byte():
    async def refuse():
        raise ThrottledError("not now", retry_after=timedelta(seconds=9))

    with FakeGemini() as server:
        caller = RemoteCaller("gemini", server.url, {"x-goog-api-key": "k"})
        with pytest.raises(ThrottledError) as held:
            await caller.post("/v1beta/models/m:generateContent", refuse, content=b"{}")
        await caller.aclose()

    assert not held.value.was_sent
    assert server.calls == []


async def test_request_that_broke_off_half_way_was_never_sent():
    async def hang_up(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async def go_on():
        pass

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        caller = RemoteCaller("gemini", f"http://127.0.0.1:{port}", {})
        with pytest.raises(ProviderUnavailableError) as broken:
            await caller.post("/x", go_on, content=bytes(40_000_000))
        await caller.aclose()

    assert (broken.value.was_sent, broken.value.is_paid) == (False, False)


def unusable():
    """Return a provider whose answers are of no use, and which asks for one more try."""
    ends = (asking_again(BrokenAnswerError, "no JSON"), BrokenAnswerError("no JSON"))
    return scripted(*ends, analyses=ends)


async def test_second_try_is_an_intent_of_its_own_and_counts_as_paid(database):
    provider = scripted(asking_again(BrokenAnswerError, "text and no picture"))
    with pytest.raises(TooManyPaidCallsError, match="3 generate calls may have been paid"):
        await asked(database, provider)

    assert provider.sent == 3
    assert await intents(database) == [("BrokenAnswerError", True)] * 3


async def test_unusable_analysis_is_measured_after_what_its_provider_asks_again(database):
    claim, provider, measuring = await make_claim(database), unusable(), scripted(is_paid=False)
    job = RunningJob(claim)
    gate = Gate(database, [provider], measuring, Settings())
    await gate.for_job(job, most_paid_calls=3).analyze(EncodedImage(b"", result_side_px=1024), AnalysisOptions())

    assert (provider.sent, measuring.sent) == (2, 1)
    sizes = [call.images[0].result_side_px for call in (*provider.calls, *measuring.calls)]
    assert sizes == [1024, 1024, None], "a result that another provider will make must not be made here"


async def hang():
    await asyncio.sleep(60)


async def fail():
    raise ProviderUnavailableError("out of order")


@pytest.mark.parametrize("connecting", [hang, fail])
async def test_analysis_that_cant_be_had_is_measured_and_ends_nothing(database, connecting, monkeypatch):
    monkeypatch.setattr("workers.gate.gated_provider.ANALYSIS_S", 2.0)
    claim, measuring = await make_claim(database), scripted(is_paid=False)
    gate = Gate(database, [scripted(connecting=connecting)], measuring, Settings())
    job = RunningJob(claim)
    await gate.for_job(job, most_paid_calls=3).analyze(EncodedImage(b""), AnalysisOptions())

    assert measuring.sent == 1
    assert (await intents(database))[-1] == ("answered", True)
    assert not await database.fetchval("SELECT count(*) FROM darkroom.provider_calls WHERE outcome = 'open'")


def breaking(error, *, is_late):
    """Return a provider whose call ends with what a test says, before or after its first byte has left."""

    async def fail():
        raise error

    return scripted(error) if is_late else scripted(connecting=fail)


BUDGET = "SELECT (state ->> 'calls')::integer FROM darkroom.limits WHERE scope = 'budget' AND window_start = 'epoch'"


@pytest.mark.parametrize("is_late", [False, True], ids=["not sent", "sent"])
@pytest.mark.parametrize("error", [KeyError("candidates"), OSError("no room"), asyncio.CancelledError()], ids=repr)
async def test_call_that_breaks_off_unexpectedly_counts_only_if_it_may_have_left(database, error, is_late):
    with pytest.raises(type(error)):
        await asked(database, breaking(error, is_late=is_late), budgets="total_calls=9")

    (call,) = await database.fetch("SELECT outcome, was_sent, may_be_paid FROM darkroom.provider_calls")
    name = "cut_off" if isinstance(error, asyncio.CancelledError) else type(error).__name__
    assert tuple(call) == (name, is_late, is_late)
    assert await database.fetchval(BUDGET) == int(is_late)


async def test_call_whose_second_look_finds_no_database_is_not_counted(database, monkeypatch):
    async def lost(*_):
        raise DatabaseLostError("gone")

    monkeypatch.setattr("workers.gate.open_calls.pause_left_s", lost)
    monkeypatch.setattr("workers.gate.open_calls.SENT_WITHIN_S", 0.0)
    provider = scripted()
    with pytest.raises(DatabaseLostError):
        await asked(database, provider)

    assert (provider.sent, await intents(database)) == (0, [("DatabaseLostError", False)])


ONE_A_MINUTE = {"provider_limits": "gemini/requests_per_minute=1"}


async def test_second_try_that_has_no_room_now_uses_the_attempt_that_the_first_has_cost(database):
    provider = unusable()
    with pytest.raises(BrokenAnswerError):  # a snooze would give it back, and the first try be bought over and over
        await asked(database, provider, **ONE_A_MINUTE)

    assert provider.sent == 1


async def test_unusable_analysis_without_room_for_a_second_try_is_measured(database):
    claim, provider, measuring = await make_claim(database), unusable(), scripted(is_paid=False)
    job = RunningJob(claim)
    gate = Gate(database, [provider], measuring, Settings(**ONE_A_MINUTE))
    await gate.for_job(job, most_paid_calls=3).analyze(EncodedImage(b""), AnalysisOptions())

    assert (provider.sent, measuring.sent) == (1, 1)


async def test_pause_of_our_own_engine_keeps_nobody_from_measuring(database):
    claim, provider, measuring = await make_claim(database), unusable(), scripted(is_paid=False, name="local")
    await database.fetch(
        'INSERT INTO darkroom.settings (key, value) VALUES (\'pauses\', \'{"provider:local": {"actor": "ann"}}\')'
    )
    job = RunningJob(claim)
    gate = Gate(database, [provider], measuring, Settings())
    await gate.for_job(job, most_paid_calls=3).analyze(EncodedImage(b""), AnalysisOptions())

    assert measuring.sent == 1
