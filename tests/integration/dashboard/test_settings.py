"""The page Settings: every setting, and no secret."""

from pipelines.settings import Settings
from pipelines.settings_table import describe
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page


async def test_settings_are_listed_without_secrets(database_url, services):
    settings = Settings(
        gemini_api_key="a-very-secret-key-of-gemini",
        redis_url="redis://user:pw7@example.test:6379/0",
        database_url="postgresql://darkroom:hidden-password@example.test/x",
    )

    async with shown(database_url, services, settings=settings) as client:
        text = (await client.get("/settings")).text

    rows = {row[0]: row for row in read_page(text).get("table", "Settings").rows()}
    assert [*rows] == [row.name for row in describe(settings)]
    assert rows["GEMINI_API_KEY"][1] == "set"
    assert rows["OPENAI_API_KEY"][1] == "-"
    assert rows["REDIS_URL"][1] == "redis://user:***@example.test:6379/0"
    assert rows["DARKROOM_LANES"][1:3] == [describe(settings)[[*rows].index("DARKROOM_LANES")].value] * 2
    assert all(row[3] for row in rows.values())
    for secret in ("a-very-secret-key-of-gemini", "pw7", "hidden-password"):
        assert secret not in text
