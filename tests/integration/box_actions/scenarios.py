"""Jobs that call an endpoint, from submission to their end; run by test_box_actions.py with its plugin."""

import asyncio
import os
import signal
from datetime import timedelta

from config.masking import SecretMask
from models.queue.claims import wake_due
from models.queue.groups import GroupWriter
from models.schema.migrate import check
from pipelines.endpoint import EndpointAnswer
from pipelines.fetching import PictureFetcher
from pipelines.job_types import CALL, JOB_TYPES, JobType
from pipelines.settings import Settings
from pipelines.stage import Stage
from tests.integration.box_actions.endpoint import CUT, http
from tests.support.builders import claim_jobs, make_worker, queue_row, set_stage_queues
from tests.support.fleet import eventually
from tests.support.patience import HANGS_AFTER_S, within
from tests.support.running import make_stages
from workers.process.session_age import SessionAge
from workers.process.supervisor import WorkerProcesses
from workers.process.wake_up import Lanes
from workers.running.claim_loop import ClaimLoop
from workers.running.job import RunningJob
from workers.running.record import Recorder
from workers.running.run import StageRunner
from workers.running.runner import Runner
from workers.running.stage_queues import StageQueues


async def make_action(database, server, **columns):
    columns = {"box_id": 3, "action": "open", "endpoint": server.url(), "payload": {"lid": "slowly"}} | columns
    values = ", ".join(f"${number}" for number in range(1, 1 + len(columns)))
    inserted = f"INSERT INTO public.box_actions ({', '.join(columns)}) VALUES ({values}) RETURNING id"
    return str(await database.fetchval(inserted, *columns.values()))


async def row_of(database, action):
    return (await database.fetch("SELECT * FROM public.box_actions WHERE id = $1::text::bigint", action))[0]


async def queued(database, action):
    """Return how many attempts of a waiting job count, and in how many seconds it is due."""
    row = await queue_row(database, action)
    left = row["scheduled_at"] - await database.fetchval("SELECT now()")
    return row["attempts"], left / timedelta(seconds=1)


async def make_due(database, action):
    await database.fetch("UPDATE darkroom.job_queue SET scheduled_at = now() WHERE job_id = $1", action)
    await database.run(wake_due)


def refuse_pictures(job):
    raise AssertionError(f"job {job.id} is asked whether its picture can be made")


async def start(database, folder, *, deadline_s=60, allow_loopback=True):
    """Claim the next job and start its run as a worker does; return it."""

    def kind(**made):
        options = {
            "fetcher": PictureFetcher(allow_loopback=allow_loopback),
            "deadlines_s": {"CALLING": deadline_s},
            "check_job": refuse_pictures,
        }
        return StageRunner(**made | options)

    writer, mask = GroupWriter(database), SecretMask([])
    runner = Runner(make_stages(database, writer, folder, None, mask, kind), Recorder(database, writer, mask))
    (claim,) = await claim_jobs(database)
    job = RunningJob(claim)
    job.task = asyncio.create_task(runner.run_job(job))
    return job


async def run(database, folder, **options):
    async with asyncio.timeout(HANGS_AFTER_S):
        await (await start(database, folder, **options)).task


async def called(endpoint, times):
    """Wait until the endpoint has been called so often."""

    async def is_called():
        return len(endpoint.requests) >= times

    await eventually(is_called, f"call {times}")


async def test_answer_is_the_result_of_a_job_that_sends_its_payload(database, database_url, endpoint, tmp_path):
    assert [problem.message for problem in await check(database_url)] == []
    action = await make_action(database, endpoint)
    estimated = "SELECT mean_s, is_guess FROM darkroom.times_from('call', 'FREE', 'CALLING')"
    assert [tuple(one) for one in await database.fetch(estimated)] == [
        (10, True)
    ]  # of one stage, and not of a picture's
    answer = {"lid": "open", "after_s": 1.5, "notes": ["é", None, True]}
    endpoint.answer(http(201, answer))

    await run(database, tmp_path)

    row = await row_of(database, action)
    assert (row["status"], row["answer"], row["http_status"]) == ("done", answer, 201)
    assert (row["error"], row["attempts"], row["ended"] >= row["started"]) == (None, 0, True)
    (asked,) = endpoint.requests
    assert asked.line == "POST /actions?key=hidden HTTP/1.1"
    assert asked.body == {"lid": "slowly", "action": "open", "box": 3}
    sent = {"idempotency-key": f"call/{action}", "content-type": "application/json", "user-agent": "darkroom"}
    assert asked.headers.items() >= sent.items()
    assert await queue_row(database, action) is None
    # the history says how it went, and doesn't keep the answer once more
    runs = await database.fetch("SELECT event, stage, output FROM darkroom.stage_runs WHERE event = 'finished'")
    assert [tuple(one) for one in runs] == [("finished", "CALLING", {"http_status": 201})]
    for body, kept in ((b"7", 7), (b'"text"', "text"), (b"null", None), (b"[1e3]", [1000.0])):
        one = await make_action(database, endpoint)
        endpoint.answer(http(200, body))
        await run(database, tmp_path)
        row = await row_of(database, one)
        assert (row["status"], row["answer"], row["http_status"]) == ("done", kept, 200)
    empty = await make_action(database, endpoint)
    endpoint.answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    await run(database, tmp_path)
    row = await row_of(database, empty)
    assert (row["status"], row["answer"], row["http_status"]) == ("done", None, 204)


FINAL = [
    (http(404, {"why": "no box"}), "answered with status 404"),
    (http(302, b"", "Location: http://10.0.0.1/"), "answered with status 302, a redirect, which isn't followed"),
    (http(307, b"", "Location: http://127.0.0.1/"), "answered with status 307, a redirect, which isn't followed"),
    (http(200, b"<html>"), "answered with what isn't JSON"),
    (http(200, b""), "answered with what isn't JSON"),
    (http(200, b'{"a": NaN}'), "answered with what isn't JSON"),
    (http(200, b"[1e999]"), "answered with what isn't JSON"),
    (http(200, b"\xff\xfe"), "answered with what isn't JSON"),
    (http(200, b"[" * 500 + b"]" * 500), "answered with JSON of more than 100 levels"),
    (http(200, b"[" * 90_000 + b"]" * 90_000), "answered with what isn't JSON"),
    (http(200, b'{"a\\u0000": 1}'), "answered with characters that can't be stored"),
    (http(200, b'["\\ud800"]'), "answered with characters that can't be stored"),
    (http(200, b"{}", "Content-Encoding: gzip"), "packed its answer, though a plain one was asked for"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n{", "answered with 5,000,000 bytes; the limit is 1,000,000"),
    (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 1_100_000, "answered with more than 1,000,000 bytes, the limit"),
]


async def test_answer_that_another_try_would_not_change_fails_the_job_in_words(database, endpoint, tmp_path):
    for answer, words in FINAL:
        action = await make_action(database, endpoint)
        endpoint.answer(answer)
        await run(database, tmp_path)
        row = await row_of(database, action)
        assert (row["status"], row["error"]) == ("failed", f"endpoint 127.0.0.1 {words}")
        assert (row["answer"], row["http_status"]) == (None, None)
        assert await queue_row(database, action) is None
    assert len(endpoint.requests) == len(FINAL)
    logged = await database.fetch("SELECT e::text FROM public.error_logs e")
    assert "no box" in str(logged)
    assert "hidden" not in str(logged)  # what the URL's query holds is nobody else's


async def test_url_of_no_public_host_is_refused_without_a_connection(database, endpoint, tmp_path):
    refused = {
        endpoint.url().replace(f":{endpoint.port}", ""): "endpoint 127.0.0.1 is refused: its host isn't a public one",
        "http://10.0.0.1/?key=hidden": "endpoint 10.0.0.1 is refused: its host isn't a public one",
        endpoint.url(): f"the endpoint's URL is refused: its port is {endpoint.port}; allowed are 80 and 443",
        "ftp://a.example/?hidden": "the endpoint's URL is refused: it starts with neither http:// nor https://",
        "http://user:hidden@a.example/": "the endpoint's URL is refused: it holds a user name",
        "": "the job names no endpoint to call",
    }
    for url, words in refused.items():
        action = await make_action(database, endpoint, endpoint=url)
        await run(database, tmp_path, allow_loopback=False)
        row = await row_of(database, action)
        assert (row["status"], row["error"]) == ("failed", words)
    await make_action(database, endpoint, payload={"text": "x" * 1_000_000})
    await run(database, tmp_path)
    errors = await database.fetch("SELECT error FROM public.box_actions ORDER BY id DESC LIMIT 1")
    assert errors[0][0] == "the job's body has 1,000,035 bytes; the limit is 1,000,000"
    assert endpoint.requests == []


async def test_temporary_failure_is_retried_as_the_same_call(database, endpoint, tmp_path):
    for answer in (http(500), http(408), http(409), http(425), http(503), http(502, b"", "Retry-After: 900"), CUT):
        action = await make_action(database, endpoint)
        endpoint.answer(answer, http(200, {"answer": "late"}))
        await run(database, tmp_path)
        row, (attempts, due_s) = await row_of(database, action), await queued(database, action)
        assert (row["status"], row["attempts"], attempts) == ("queued", 1, 1)
        assert row["error"].startswith("endpoint 127.0.0.1 ")
        assert (due_s > 600) == (b"Retry-After" in answer)

        await make_due(database, action)
        await run(database, tmp_path)
        row = await row_of(database, action)
        assert (row["status"], row["answer"], row["error"]) == ("done", {"answer": "late"}, None)
        first, second = endpoint.requests[-2:]
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == f"call/{action}"
        assert first.body == second.body


async def test_endpoint_that_asks_to_wait_gets_its_time_and_no_attempt_counts(database, endpoint, tmp_path):
    for answer, wait_s in (
        (http(429, b"", "Retry-After: 300"), 300),
        (http(503, b"", "Retry-After: 200"), 200),
        (http(429), 20),
        (http(429, b"", "Retry-After: 9999999"), 86_400),
    ):
        action = await make_action(database, endpoint)
        endpoint.answer(answer)
        await run(database, tmp_path)
        row, (attempts, due_s) = await row_of(database, action), await queued(database, action)
        assert (row["status"], row["attempts"], attempts) == ("queued", 0, 0)
        assert wait_s / 2 < due_s <= wait_s


async def test_endpoint_that_does_not_answer_is_left_at_the_deadline(database, endpoint, tmp_path):
    action = await make_action(database, endpoint)

    await run(database, tmp_path, deadline_s=0.3)

    row, (attempts, _) = await row_of(database, action), await queued(database, action)
    assert (row["status"], attempts) == ("queued", 1)
    assert row["error"] == "CALLING wasn't done within its deadline of 0.3 s"


async def test_answer_that_comes_after_the_claim_was_lost_completes_nothing(database, endpoint, tmp_path):
    action = await make_action(database, endpoint)
    job = await start(database, tmp_path)
    await called(endpoint, 1)
    # as after a rescue: another worker holds the job
    await database.fetch("UPDATE darkroom.job_queue SET lease_token = gen_random_uuid() WHERE job_id = $1", action)
    endpoint.answer(http(200, "too late"))
    await job.task

    row = await row_of(database, action)
    assert (row["status"], row["answer"], row["http_status"]) == ("calling", None, None)


async def test_call_is_sent_once_the_outputs_of_earlier_stages_are_committed(database, endpoint, tmp_path, monkeypatch):
    may_end = asyncio.Event()

    async def ask_first(_context):
        await may_end.wait()
        return EndpointAnswer("asked", 200)

    first = Stage("ASKING", ask_first, output=EndpointAnswer, deadline_s=60)
    monkeypatch.setitem(JOB_TYPES, "call", JobType("call", (first, CALL)))
    action = await make_action(database, endpoint)
    job = await start(database, tmp_path)

    async def has_begun():
        return (await queue_row(database, action))["stage"] == "ASKING"

    await eventually(has_begun, "the first stage")
    holder = await database.connect_direct()
    try:
        await holder.execute(f"BEGIN; SELECT FROM public.box_actions WHERE id = {action} FOR UPDATE")
        may_end.set()
        other = await make_action(database, endpoint)
        endpoint.answer(http(200, "other"))
        await run(database, tmp_path)  # while another job goes through, the first one doesn't call
        assert [one.headers["idempotency-key"] for one in endpoint.requests] == [f"call/{other}"]
        await holder.execute("ROLLBACK")
    finally:
        holder.terminate()
    endpoint.answer(http(200, "first"))
    await job.task

    assert (await row_of(database, action))["answer"] == "first"
    kept = await database.fetch("SELECT stage, output FROM darkroom.checkpoints WHERE job_id = $1", action)
    assert [tuple(one) for one in kept] == [("ASKING", {"answer": "asked", "http_status": 200})]


async def test_call_with_a_queue_of_its_own_waits_for_no_provider(database, endpoint):
    waiting = await make_action(database, endpoint)
    await set_stage_queues(database, CALLING="calls")
    action, ran = await make_action(database, endpoint), []

    async def none_callable(_awaiting, _wanted):
        return 0

    async def note(job):
        ran.append(job.claim.job_id)

    loop = ClaimLoop(
        Settings(lanes=8, queues=["default", "calls"], poll_s=0.05),
        *(database, await make_worker(database, queues=["default", "calls"]), note),
        lanes=Lanes(),
        session_age=lambda: SessionAge(15),
        callable_jobs=none_callable,
        stage_queues=StageQueues({"CALLING": "calls"}),
    )
    task = asyncio.create_task(loop.run())

    async def has_run():
        return ran

    await eventually(has_run, "the claim of the call")
    task.cancel()
    assert ran == [action]
    assert (await row_of(database, waiting))["status"] == "queued"


class ActionWorkers(WorkerProcesses):
    ENTRY_POINT = "tests.integration.box_actions.worker:main"


async def test_killed_worker_and_a_cancelled_call(database, endpoint, fleet):
    action = await make_action(database, endpoint)
    fleet.start(1, kind=ActionWorkers, lease_s=3, fetch_allow_loopback=True)
    await called(endpoint, 1)
    os.kill(await fleet.holder_pid(action), signal.SIGKILL)

    await called(endpoint, 2)
    endpoint.answer(http(200, {"lid": "open"}))

    async def is_done():
        return (await row_of(database, action))["status"] == "done"

    await eventually(is_done, "the end of the job")
    assert [one.headers["idempotency-key"] for one in endpoint.requests] == [f"call/{action}"] * 2
    ended = "SELECT count(*) FROM darkroom.stage_runs WHERE job_id = $1 AND event = 'finished'"
    assert await database.fetchval(ended, action) == 1
    cut_off = endpoint.cut_off

    other = await make_action(database, endpoint)
    await called(endpoint, 3)
    with within(2):
        await database.fetch("UPDATE public.box_actions SET status = 'cancelled' WHERE id = $1::text::bigint", other)

        async def is_left():
            return endpoint.cut_off > cut_off

        await eventually(is_left, "the end of the call")
    row = await row_of(database, other)
    assert (row["status"], row["answer"], await queue_row(database, other)) == ("cancelled", None, None)
