"""Lists of jobs whose table has no index of changes: in the order of changes as far as it is known, and complete."""

import json

from models.queue.job_filter import JobFilter, UserOfJobs
from tests.integration.dashboard.test_job import read_events
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.job_lists import jobs_page, list_jobs

INSERTED = """
INSERT INTO generations (_id, "userId", prompt, parameters, "tokensUsed", status, "createdAt")
SELECT 'old' || lpad(n::text, 5, '0'), 'u2', 'a cup', '{"size": "1K", "count": 1}', 2,
       (ARRAY['completed', 'failed', 'cancelled'])[1 + n % 3], now() - interval '1 day' - interval '1 s' * n
FROM generate_series(1, 3000) n
"""
ONE = """
INSERT INTO generations ("userId", prompt, parameters, "tokensUsed")
VALUES ('u1', 'a cup', '{"size": "1K", "count": 1}', 2) RETURNING _id
"""
END = """
INSERT INTO darkroom.stage_runs (job_type, job_id, event, stage, attempt)
VALUES ('studio.generate', $1, $2, 'GENERATING', 1)
"""


async def pages(database, wanted):
    """Return the ids of all pages, each page's apart, and the costliest page."""
    found, cursor, worst = [], None, 0
    while True:
        page, cost = await cost_of(database, lambda runtime, at=cursor: jobs_page(runtime, wanted, cursor=at))
        assert cost.statements <= 15
        assert cost.most_rows_of_a_scan <= 1000
        worst = max(worst, cost.buffers)
        found.append([job.id for job in page.jobs])
        if (cursor := page.next) is None:
            return found, worst


async def test_jobs_of_a_small_table_are_all_listed(database):
    ids = [await database.fetchval(ONE) for _ in range(3)]
    assert (await pages(database, JobFilter()))[0] == [ids[::-1]]
    _, cost = await cost_of(database, lambda runtime: list_jobs(runtime, JobFilter(user=UserOfJobs("u1"))))
    assert cost.most_rows_of_a_scan <= 1000


async def test_jobs_of_a_large_table_are_listed_from_queue_history_and_keys(database):
    await database.fetch("ALTER TABLE generations DISABLE TRIGGER USER")
    await database.fetch(INSERTED)
    await database.fetch("ALTER TABLE generations ENABLE TRIGGER USER")
    waiting = [await database.fetchval(ONE) for _ in range(2)]
    await database.fetch(END, "old00009", "finished")  # completed last, though its row is an old one
    await database.fetch(END, "old00007", "failed")
    await database.fetch("ANALYZE generations")

    found, worst = await pages(database, JobFilter())
    first = found[0]
    assert first[:4] == ["old00007", "old00009", *waiting[::-1]]
    assert first[4:6] == ["old03000", "old02999"]
    listed = [one for page in found for one in page]
    assert len(listed) == len(set(listed)) == 3002
    assert worst <= 2000

    failed, _ = await pages(database, JobFilter(["FAILED"]))
    assert len([one for page in failed for one in page]) == 1000
    assert (await pages(database, JobFilter(user=UserOfJobs("u1"))))[0] == [waiting[::-1]]
    mine, _ = await pages(database, JobFilter(user=UserOfJobs("u2")))
    assert mine[0][:2] == ["old00001", "old00002"]
    assert sum(map(len, mine)) == 3000


async def test_all_pictures_of_a_generation_are_shown(database, database_url, services, tmp_path):
    await database.fetch("ALTER TABLE generations DISABLE TRIGGER USER")
    await database.fetch(
        """WITH made AS (INSERT INTO files (_id, "userId", category, "storageId")
                         VALUES ('r1', 'u1', 'generated_image', 'a/1.jpg'), ('r2', 'u1', 'generated_image', 'a/2.jpg'))
           INSERT INTO generations (_id, "userId", prompt, parameters, "tokensUsed", status, "productImageFiles",
                                    "modelImageFiles", "resultImageFiles")
           VALUES ('g1', 'u1', '<b>a shirt</b>', '{"size": "1K", "count": 2}', 4, 'completed',
                   '{f1}', '{f2}', '{r1,r2}')"""
    )
    await database.fetch("ALTER TABLE generations ENABLE TRIGGER USER")
    (tmp_path / "objects").mkdir()
    async with shown(database_url, services, storage_url=(tmp_path / "objects").as_uri()) as client:
        page = read_page((await client.get("/jobs/g1")).text)
        assert [one["src"] for one in page.find("image")] == [
            *("/jobs/g1/before", "/jobs/g1/after", "/jobs/g1/before?n=2", "/jobs/g1/after?n=2"),
        ]
        assert "<b>a shirt</b>" in page.get("region", "Prompt").text
        assert page.get("heading", "Job g1")
        assert (await client.get("/jobs/generations:g1")).status_code == 200
        events = await read_events(client, "/jobs/g1/events")
        assert events[-1][2]["url"].endswith("/objects/a/1.jpg")
        assert json.dumps(events[-1][2])
