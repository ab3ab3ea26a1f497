"""A process that dies between two pictures of a job, or while it records one; run by test_several_pictures.py."""

import pytest

from pipelines.storage.backends import open_storage
from tests.acceptance.test_crash_points import House, Scenario
from tests.support.forked import FORKS

FORKS.set_forkserver_preload(["tests.integration.several_pictures.studies", "tests.support.preloaded"])

COUNT = 3
WORK = Scenario("work", None, frozenset())

UNRECORDED = {"before record_picture", "after call_generate", "before record_group"}
"""A crash between an answer and its record loses that one picture."""


@pytest.fixture
async def house(database, database_url, services, tmp_path):
    return House(database, database_url, services, tmp_path)


@pytest.mark.parametrize(
    "place",
    [
        *(("before record_picture", 1), ("after record_picture", 1), ("before call_generate", 2)),
        *(("after call_generate", 2), ("after record_picture", 2)),
        *(("before record_group", 1), ("after record_group", 1)),
    ],
    ids=lambda place: f"{place[0]} {place[1]}".replace(" ", "_"),
)
async def test_no_recorded_picture_is_bought_again_wherever_a_process_dies(house, place):
    study = await house.database.fetchval(
        "INSERT INTO public.studies (who, words, wanted) VALUES ('u', 'at a market', $1) RETURNING id", COUNT
    )
    assert await house.live(WORK, str(study), place) is None
    recorded = await house.database.fetchval("SELECT count(*) FROM darkroom.checkpoints")
    at_death = house.calls.read_text().split().count("generated")

    await house.carry_on(WORK)

    row = (await house.database.fetch("SELECT * FROM public.studies"))[0]
    files = await house.database.fetch("SELECT id, n, key FROM public.study_files ORDER BY n")
    bought = house.calls.read_text().split().count("generated")
    assert (row["state"], [one["n"] for one in files]) == ("completed", [1, 2, 3])
    assert row["result_ids"] == [one["id"] for one in files]
    assert bought == COUNT + (place[0] in UNRECORDED)
    assert at_death >= recorded
    stored = {one.key for one in await open_storage((house.folder / "objects").as_uri()).list_objects("atelier/")}
    assert stored == {one["key"] for one in files}
    calls = await house.database.fetch(
        "SELECT input_hash, count(*) AS calls FROM darkroom.provider_calls WHERE purpose = 'generate' GROUP BY 1"
    )
    assert len(calls) == COUNT
    assert sum(one["calls"] for one in calls) == bought + (place[0] == "before call_generate")
