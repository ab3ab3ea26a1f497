"""The pages of pipelines: the list, and one with its JSON."""

from tests.support.builders import make_pipeline, make_user
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page
from tests.support.statement_costs import cost_of
from workers.operations.pipelines import newest_pipelines

HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} \x01\u202e" + "y" * 10_000
MANY = """
INSERT INTO public.enhancement_pipelines (id, name, "promptConfig", "createdAt", "updatedAt")
SELECT md5(n::text), 'p' || n, jsonb_build_object('text', repeat('x', 200)),
       darkroom.utc_now() - make_interval(secs => 50000 - n), darkroom.utc_now()
FROM generate_series(1, 20000) n
"""


async def test_pipelines_are_listed_and_their_json_is_readable(database, database_url, services):
    user = await make_user(database)
    pipeline = await make_pipeline(database, user, promptConfig={"text": HOSTILE, "number": 0.4})
    await database.fetch(
        """UPDATE public.enhancement_pipelines SET name = $2, description = $2, "shareToken" = 'secret-token'
           WHERE id = $1""",
        pipeline,
        HOSTILE,
    )

    async with shown(database_url, services, role="viewer") as client:
        text = (await client.get("/pipelines")).text
        assert "<img" not in text
        page = read_page(text)
        (row,) = page.get("table", "Pipelines").rows()
        assert row[:4] == [" ".join(HOSTILE.split()), pipeline, user, "PRIVATE"]
        text = (await client.get(f"/pipelines/{pipeline}")).text
        assert "<img" not in text
        assert "secret-token" not in text
        page = read_page(text)
        assert page.find("heading")[0].text == " ".join(HOSTILE.split())
        assert '"number": 0.4' in page.get("region", "promptConfig").text
        assert "the default of the system" in page.get("region", "analysisConfig").text
        for wrong in ("nothing", "~~", "x%00"):
            answer = await client.get(f"/pipelines/{wrong}")
            assert (answer.status_code, read_page(answer.text).find("heading")[0].text) == (404, "Not found")


async def test_pipelines_are_many_and_few_rows_are_read(database):
    await database.fetch(MANY)
    await database.fetch("ANALYZE public.enhancement_pipelines")

    found, cost = await cost_of(database, newest_pipelines)
    assert [one.name for one in found] == [f"p{20001 - n}" for n in range(1, 51)]
    assert (cost.buffers <= 2000, cost.most_rows_of_a_scan <= 1000) == (True, True), cost
