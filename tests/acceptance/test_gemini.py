"""Real workers with a fake Gemini that fails: every job ends, no call is made too early, and no log has the API key."""

import asyncio
import base64
import contextlib
import os

import pytest

from pipelines.settings import Settings
from tests.support.builders import (
    balance_of,
    every_row,
    job_row,
    make_generation,
    make_job,
    make_user,
    money_violations,
)
from tests.support.fake_gemini.server import FakeGemini
from tests.support.fake_openai import FakeOpenAI, failure
from tests.support.fleet import eventually
from tests.support.forked import ForkedWorkers, PreloadedWorkers
from tests.support.imaging_pictures import CANARY, telling_jpeg
from tests.support.patience import HANGS_AFTER_S
from workers.gate.open_calls import SENT_WITHIN_S

ON_ITS_WAY_S = 2 * SENT_WITHIN_S
"""From a 429's first byte to the last call that another process still sends: the answer read, recorded, heard of."""

OPENAI_KEY = "sk-FAKE-a-key-that-may-appear-nowhere"
KEY = "AIzaFAKE-a-key-that-may-appear-nowhere1"


@pytest.fixture
def gemini():
    with FakeGemini(seed=7) as server:
        yield server


@pytest.fixture
def start(fleet, gemini, tmp_path):
    """Start workers whose provider is the fake Gemini."""
    started = []

    def start(processes=1, *, provider=("gemini",), kind=ForkedWorkers, **environment):
        os.environ |= {"GEMINI_API_KEY": KEY, "GEMINI_BASE_URL": gemini.url, "LOG_LEVEL": "debug"}
        os.environ |= {f"DARKROOM_{name.upper()}": value for name, value in environment.items()}
        settings = Settings(home=tmp_path, provider=provider, gemini_api_key=KEY)
        workers = kind(settings, fleet.services, processes=processes, lanes=8)
        workers.start()
        started.append(workers)
        assert workers.wait_ready(HANGS_AFTER_S), "the workers didn't start"
        return workers

    yield start
    for workers in started:
        workers.stop(timeout_s=10)


async def ended(fleet, jobs):
    async def all_over():
        rows = [await job_row(fleet.database, job) for job in jobs]
        return rows if all(row["status"] not in {"PENDING", "PROCESSING"} for row in rows) else None

    return await eventually(all_over, "the end of every job")


async def submitted(fleet, count, **columns):
    user, image = await fleet.stored_picture(size=(120, 90), balance=1000)
    return user, [await make_job(fleet.database, user_id=user, image_id=image, **columns) for _ in range(count)]


@pytest.mark.proof
async def test_jobs_complete_though_three_calls_in_ten_fail(fleet, gemini, start):
    gemini.failures = 0.3
    user, jobs = await submitted(fleet, 40)
    start(2, kind=PreloadedWorkers)

    rows = await ended(fleet, jobs)

    completed = [row for row in rows if row["status"] == "COMPLETED"]
    assert {row["status"] for row in rows} <= {"COMPLETED", "REFUNDED"}
    assert len(completed) >= 38, [row["errorMessage"] for row in rows if row["status"] != "COMPLETED"]
    assert {row["geminiModel"] for row in completed} == {"gemini-nano-banana-2.1"}
    # as the server saw it: what came after a 429 was on its way already, and then RetryInfo was kept
    assert max(gemini.early_s(), default=0) < ON_ITS_WAY_S
    assert await balance_of(fleet.database, user) == 1000 - 2 * len(completed)
    assert await money_violations(fleet.database) == []
    written = await fleet.database.fetchval(
        "SELECT count(*) FROM darkroom.provider_calls WHERE provider = 'gemini' AND was_sent"
    )
    assert written == len(gemini.calls)


async def test_policy_refusal_ends_at_once_refunded_with_its_category(fleet, gemini, start):
    gemini.script("ok", "image safety")
    user, (job,) = await submitted(fleet, 1)
    start()

    (row,) = await ended(fleet, [job])

    assert (row["status"], row["retryCount"]) == ("REFUNDED", 1)
    assert "IMAGE_SAFETY" in row["errorMessage"]
    assert await balance_of(fleet.database, user) == 1000
    assert len(gemini.calls) == 2


async def test_key_appears_nowhere(fleet, gemini, start, capfd):
    gemini.script("ok", "500", "html", "403")
    _, (job,) = await submitted(fleet, 1)
    start(kind=PreloadedWorkers)

    (row,) = await ended(fleet, [job])

    assert row["status"] == "REFUNDED"
    logged = capfd.readouterr()
    assert "provider_stopped" in logged.err
    stored = await every_row(fleet.database)
    assert stored["public.error_logs"]
    assert KEY not in "".join([logged.out, logged.err, str(stored)])


async def test_worker_says_at_its_start_that_a_model_is_gone(fleet, gemini, start, capfd):
    start(provider=("gemini", "local"), gemini_image_model="gemini-2.5-flash-image", kind=PreloadedWorkers)
    logged = []

    async def said():
        logged.append(capfd.readouterr().err)
        return "provider_misconfigured" in "".join(logged)

    await eventually(said, "the complaint")

    assert "no model gemini-2.5-flash-image" in "".join(logged)
    assert gemini.calls == []


async def test_words_make_a_picture_and_an_unconfigured_provider_is_passed_over(fleet, gemini, start):
    start(provider=("openai", "gemini", "local"))
    job = await make_generation(fleet.database, prompt="a cat")

    (row,) = await ended(fleet, [job])

    assert (row["status"], row["geminiModel"]) == ("COMPLETED", "gemini-nano-banana-2.1")
    assert (row["width"], row["height"]) == (1024, 1024)
    assert [call.purpose for call in gemini.calls] == ["generate"]


@pytest.mark.parametrize(
    ("refusal", "model", "drawn"), [(None, "gpt-image-1", 2), (failure(401, "invalid_api_key"), "local", 1)]
)
async def test_refused_key_falls_back_to_openai_and_a_second_one_to_the_local_engine(
    fleet, gemini, start, refusal, model, drawn, capfd
):
    gemini.script(*["403"] * 20)
    with FakeOpenAI() as openai:
        openai.script(*[refusal] if refusal else [])
        os.environ |= {"OPENAI_API_KEY": OPENAI_KEY, "OPENAI_BASE_URL": openai.url}
        start(provider=("gemini", "openai", "local"), kind=PreloadedWorkers)
        user, (first,) = await submitted(fleet, 1)
        rows = await ended(fleet, [first])
        second = await make_job(fleet.database, user_id=user, image_id=rows[0]["imageId"])
        rows += await ended(fleet, [second])

    assert [(row["status"], row["geminiModel"]) for row in rows] == [("COMPLETED", model)] * 2
    assert [call.path for call in openai.calls] == ["/v1/images/edits"] * drawn
    assert len(gemini.calls) == 1  # its breaker is open: nobody asks again
    assert await balance_of(fleet.database, user) == 1000 - 2 * 2
    logged = capfd.readouterr()
    assert OPENAI_KEY not in "".join([logged.out, logged.err, str(await every_row(fleet.database))])


async def test_spent_budget_falls_back_to_the_local_engine(fleet, gemini, start):
    start(provider=("gemini", "local"), budgets="day_calls=3")
    _, jobs = await submitted(fleet, 4)

    rows = await ended(fleet, jobs)

    assert [row["status"] for row in rows] == ["COMPLETED"] * 4
    assert len(gemini.calls) == 3
    assert "local" in {row["geminiModel"] for row in rows}


async def test_kill_switch_leaves_jobs_in_the_queue_with_no_attempt_used(fleet, gemini, start):
    await fleet.database.fetch("""INSERT INTO darkroom.settings VALUES ('buying', '{"stopped": true}')""")
    start()
    _, jobs = await submitted(fleet, 3)
    await asyncio.sleep(3)
    attempts = await fleet.database.fetchval("SELECT sum(attempts) FROM darkroom.job_queue")
    calls = len(gemini.calls)
    await fleet.database.fetch("DELETE FROM darkroom.settings WHERE key = 'buying'")

    rows = await ended(fleet, jobs)

    assert (attempts, calls) == (0, 0)
    assert [row["status"] for row in rows] == ["COMPLETED"] * 3


async def test_spent_budget_refuses_by_setting(fleet, gemini, start):
    start(budgets="total_calls=0", over_budget="refuse")
    user, (job,) = await submitted(fleet, 1)

    (row,) = await ended(fleet, [job])

    assert (row["status"], gemini.calls) == ("REFUNDED", [])
    assert row["errorMessage"] == "gemini: the budget of 0 calls in all is spent"
    assert await balance_of(fleet.database, user) == 1000


@contextlib.asynccontextmanager
async def serving(answer):
    """Serve one answer on loopback; give its URL."""

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a.jpg?key={CANARY.decode()}"


async def modified(fleet, url):
    """Submit a MODIFY job by URL, as a producer does; return its user and its row at the end."""
    user = await make_user(fleet.database)
    await fleet.database.fetch("INSERT INTO darkroom.settings (key, value) VALUES ('fetch_allow_loopback', 'true')")
    job = await fleet.database.fetchval(
        "SELECT darkroom.submit_generation($1, 'MODIFY', 'TIER_1K', 'a red door', NULL, $2)", user, url
    )
    (row,) = await ended(fleet, [job])
    return user, row


async def test_picture_by_url_is_modified_and_leaves_without_its_metadata(fleet, gemini, start):
    start(fetch_allow_loopback="on")
    picture = telling_jpeg()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(picture)}\r\n\r\n"
    async with serving(head.encode() + picture) as url:
        _, row = await modified(fleet, url)

    assert (row["status"], row["geminiModel"], row["width"]) == ("COMPLETED", "gemini-nano-banana-2.1", 1024)
    assert CANARY not in await fleet.storage.get(row["key"])
    (call,) = gemini.calls
    (part, words) = call.request["contents"][0]["parts"]
    assert CANARY not in base64.b64decode(part["inlineData"]["data"])
    assert CANARY.decode() not in words["text"]


async def test_redirect_to_a_forbidden_address_ends_the_job_refunded(fleet, gemini, start):
    start(fetch_allow_loopback="on")
    redirect = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest/meta-data/\r\nContent-Length: 0\r\n\r\n"
    async with serving(redirect) as url:
        user, row = await modified(fleet, url)

    assert row["status"] == "REFUNDED"
    assert row["errorMessage"] == "inputImageUrl is refused: its host isn't a public one"
    assert await balance_of(fleet.database, user) == 100
    assert gemini.calls == []
    attempts = await fleet.database.fetchval(
        "SELECT max(attempt) FROM darkroom.stage_runs WHERE job_id = $1", row["id"]
    )
    assert attempts == 1
    logged = (await every_row(fleet.database))["public.error_logs"]
    assert logged
    assert CANARY.decode() not in str(logged), "the URL may hold a key"


async def test_result_is_reused_for_the_model_that_drew_it_and_for_no_other(fleet, gemini, start):
    user, image = await fleet.stored_picture(size=(120, 90), balance=1000)

    async def drawn(**environment):
        workers = start(reuse_results="on", **environment)
        job = await make_job(fleet.database, user_id=user, image_id=image)
        (row,) = await ended(fleet, [job])
        workers.stop(timeout_s=10)
        return row["status"], gemini.count("generate")

    assert await drawn() == ("COMPLETED", 1)
    assert await drawn() == ("COMPLETED", 1)
    assert await drawn(gemini_image_model="gemini-3-pro-image") == ("COMPLETED", 2)
