"""Jobs run by real workers against a fake Gemini that fails three of ten calls: how jobs end, and what was sent.

`python -m bench.failing_gemini [--jobs 1000]` prints the results, and exits with 1 if a promise is broken.
"""

import argparse
import asyncio
import hashlib
import io
import sys
import time
from bisect import bisect_right
from collections import Counter

from PIL import Image

from bench.ground import Ground, ground, run
from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.storage.backends import open_storage
from tests.support.builders import make_generation, make_image, make_job, make_user, money_violations
from tests.support.fake_gemini.server import FakeGemini, answered, whole
from workers.gate.open_calls import SENT_WITHIN_S
from workers.process.supervisor import WorkerProcesses

PROCESSES, LANES = 2, 12
USERS, REFUSED = 20, 20
FAILURES = 0.3
PER_MINUTE, CONCURRENT, DELAY_S = 500, 6, 0.1
LEAST_COMPLETED = 0.99
TIMEOUT_S = 1_800
REFUSED_WORDS = "words that policy refuses"

PER_JOB = """
SELECT c.job_id, count(*) FILTER (WHERE c.outcome = 'PolicyRefusedError') AS refusals,
       (array_agg(c.outcome ORDER BY c.id DESC))[1] AS last
FROM darkroom.provider_calls c WHERE c.job_type = 'generate' GROUP BY 1
"""
ENDS = "SELECT status::text AS status, count(*) AS jobs FROM darkroom.jobs WHERE type = $1 GROUP BY 1 ORDER BY 2 DESC"
SENT = """
SELECT extract(epoch FROM started_at)::float8 AS at_s FROM darkroom.provider_calls
WHERE was_sent AND provider = 'gemini'
"""
LOST = """
SELECT string_agg(c.outcome || CASE WHEN c.may_be_paid THEN ' (paid)' ELSE '' END, ', ' ORDER BY c.id) AS outcomes
FROM darkroom.provider_calls c JOIN public.image_enhancement_jobs j ON j.id = c.job_id
WHERE j.status <> 'COMPLETED' AND c.purpose = 'generate' GROUP BY c.job_id ORDER BY 1
"""
REASONS = """
SELECT "errorMessage" AS reason, count(*) AS jobs FROM public.image_enhancement_jobs
WHERE status <> 'COMPLETED' GROUP BY 1 ORDER BY 2 DESC
"""


def answer(request: dict) -> tuple[int, bytes, str]:  # type: ignore[type-arg]
    """Return the fake's answer to a request. A prompt that asks to be refused by policy is refused at every call."""
    words = str([part.get("text") for content in request["contents"] for part in content["parts"]])
    return answered(reason="IMAGE_SAFETY") if REFUSED_WORDS in words else whole(request)


async def submit(database: Database, storage, count: int) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    for number in range(USERS):
        user = await make_user(database, balance=2 * count)
        image = await make_image(database, user)
        data = io.BytesIO()
        Image.effect_noise((160, 100 + number), 40).convert("RGB").save(data, "JPEG")
        sha256 = hashlib.sha256(data.getvalue()).hexdigest()
        await storage.put(f"users/{user}/originals/{image}.jpg", data.getvalue(), "image/jpeg", sha256)
        for _ in range(count // USERS):
            await make_job(database, user_id=user, image_id=image)
        for _ in range(REFUSED // USERS):
            await make_generation(database, user_id=user, prompt=REFUSED_WORDS)


def most_in_a_minute(times_s: list[float]) -> int:
    times_s = sorted(times_s)
    return max(bisect_right(times_s, at_s + 59.999) - place for place, at_s in enumerate(times_s))


async def run_all(place: Ground, gemini: FakeGemini, count: int) -> list[str]:
    database = Database(parse_postgres_url(place.services.database_url), most_connections=4)
    await database.open()
    storage = open_storage(place.services.storage_url)
    await submit(database, storage, count)
    workers = WorkerProcesses(place.settings, place.services, processes=PROCESSES, lanes=LANES)
    limits = f"gemini/requests_per_minute={PER_MINUTE},gemini/concurrency={CONCURRENT}"
    workers.environment |= {
        "PROVIDER": "gemini",
        "GEMINI_API_KEY": "a-key",
        "GEMINI_BASE_URL": gemini.url,
        "DARKROOM_PROVIDER_LIMITS": limits,
        "LOG_LEVEL": "error",
    }
    began_s = time.monotonic()
    workers.start()
    assert workers.wait_ready(60), "the workers didn't start"
    while await database.fetchval("SELECT count(*) FROM darkroom.job_queue"):
        assert time.monotonic() - began_s < TIMEOUT_S, "jobs are stuck"
        await asyncio.sleep(0.5)
    took_s = time.monotonic() - began_s
    workers.stop()
    await asyncio.sleep(1)
    wrong = await judged(database, gemini, count, took_s)
    await database.close()
    return wrong


async def judged(database: Database, gemini: FakeGemini, count: int, took_s: float) -> list[str]:
    """Print the results; return which promises they break."""
    ends = {row["status"]: row["jobs"] for row in await database.fetch(ENDS, "enhance")}
    completed = ends.get("COMPLETED", 0)
    met = Counter(call.fault or "ok" for call in gemini.calls)
    print(f"{count} jobs in {took_s:.0f} s: {ends}, {completed / count:.2%} completed")
    for row in await database.fetch(REASONS):
        print(f"  {row['jobs']} ended with: {row['reason']}")
    for row in await database.fetch(LOST):
        print(f"    {row['outcomes']}")
    print(f"{len(gemini.calls)} calls, {1 - met['ok'] / len(gemini.calls):.1%} failed: {dict(met.most_common())}")
    wrong = [] if completed >= LEAST_COMPLETED * count else [f"only {completed} of {count} jobs completed"]
    wrong += [] if sum(ends.values()) == count and set(ends) <= {"COMPLETED", "REFUNDED"} else [f"ends: {ends}"]

    early_s = gemini.early_s()
    print(
        f"{met['429']} times 429; {len(early_s)} calls came after one, the latest after {max(early_s, default=0):.3f} s"
    )
    wrong += ["a call came before its RetryInfo"] if max(early_s, default=0) > 2 * SENT_WITHIN_S else []

    admitted = await database.fetch(SENT)
    most = most_in_a_minute([row["at_s"] for row in admitted])
    arrived = most_in_a_minute([call.at_s for call in gemini.calls])
    print(f"most calls in any 60 s: admitted {most}, arrived {arrived}, limit {PER_MINUTE}")
    print(f"most calls in flight: {gemini.most_in_flight}, limit {CONCURRENT}")
    wrong += ["more calls in a minute than its limit"] if most > PER_MINUTE else []
    wrong += ["more calls in flight than the limit"] if gemini.most_in_flight > CONCURRENT else []
    wrong += ["calls and intents differ"] if len(admitted) != len(gemini.calls) else []

    refused = await database.fetch(PER_JOB)
    status = {row["status"]: row["jobs"] for row in await database.fetch(ENDS, "generate")}
    at_once = sum(row["refusals"] == 1 and row["last"] == "PolicyRefusedError" for row in refused)
    print(f"{REFUSED} jobs that policy refuses: {status}, {at_once} with one refusal and nothing after it")
    wrong += ["a refused job was tried again"] if at_once + status.get("REFUNDED", 0) != 2 * REFUSED else []
    return wrong + await money_violations(database)


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.failing_gemini")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with FakeGemini(failures=FAILURES, delay_s=DELAY_S, seed=arguments.seed) as gemini:
        gemini.answer = answer
        async with ground() as place:
            wrong = await run_all(place, gemini, arguments.jobs)
    print("\n".join(wrong) or "every promise held")
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
