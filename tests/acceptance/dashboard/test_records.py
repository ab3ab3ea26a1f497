"""Batches, users, pipelines and actions in a browser: how their pages look, and what is done by their buttons."""

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.acceptance.dashboard.test_jobs import opened
from tests.integration.dashboard.test_batches import make_batch
from tests.support.browser import launched, visit
from tests.support.builders import balance_of, make_pipeline, make_user
from tests.support.dashboard_app import shown

pytestmark = pytest.mark.asyncio(loop_scope="module")
HOSTILE = "<img src=x onerror=alert(1)> {{7*7}} " + "y" * 3_000
ACTION = "INSERT INTO darkroom.operator_actions (actor, action, target, reason) VALUES ($1, $1, $1, $1)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with launched() as browser:
        yield browser


async def test_pages_of_records_have_no_barriers(browser, database_url, services):
    async with opened(database_url) as database, shown(database_url, services) as client:
        user = await make_user(database)
        await database.fetch("UPDATE public.users SET name = $2 WHERE id = $1", user, HOSTILE)
        batch = await make_batch(database, user)
        await database.fetch("UPDATE darkroom.batches SET label = $2 WHERE id = $1", batch, HOSTILE)
        pipeline = await make_pipeline(database, user, promptConfig={"text": HOSTILE})
        await database.fetch("UPDATE public.enhancement_pipelines SET name = $2 WHERE id = $1", pipeline, HOSTILE)
        await database.fetch(ACTION, HOSTILE)
        paths = ["/batches", f"/batches/{batch}", f"/batches/{batch}/cancel", "/users", f"/users/{user}"]
        paths += [f"/users/{user}/grant", "/pipelines", f"/pipelines/{pipeline}", "/actions"]
        for width_px, is_dark in ((390, False), (390, True), (1280, False), (1280, True), (360, False)):
            async with visit(browser, str(client.base_url).rstrip("/"), width_px=width_px, is_dark=is_dark) as window:
                for path in paths:
                    await window.page.goto(path)
                    assert await window.sideways_px() == 0, path
                    if width_px > 360:
                        assert await window.barriers() == [], path
                    assert window.faults == [], path


async def test_tokens_are_granted_and_a_batch_is_cancelled(browser, database_url, services):
    async with opened(database_url) as database, shown(database_url, services) as client:
        user = await make_user(database)
        await make_batch(database, user)
        async with visit(browser, str(client.base_url).rstrip("/")) as window:
            page = window.page
            await page.goto("/")
            main = page.get_by_role("navigation", name="Main", exact=True)
            await main.get_by_role("link", name="Users", exact=True).click()
            await page.get_by_role("textbox", name="User", exact=True).fill(f"{user}@example.test")
            await page.get_by_role("button", name="Find", exact=True).click()
            await page.get_by_role("button", name="Grant tokens", exact=True).click()
            dialog = page.get_by_role("dialog", name="Grant tokens", exact=True)
            await dialog.get_by_role("textbox", name="Tokens", exact=True).fill("25")
            await dialog.get_by_role("textbox", name="Reason", exact=True).fill("a gift")
            await dialog.get_by_role("button", name="Grant tokens", exact=True).click()
            await expect(page.get_by_role("group", name="Balance", exact=True)).to_contain_text("119")
            assert await balance_of(database, user) == 119

            await main.get_by_role("link", name="Batches", exact=True).click()
            await page.get_by_role("table", name="Batches", exact=True).get_by_role("link").first.click()
            await page.get_by_role("button", name="Cancel batch", exact=True).click()
            dialog = page.get_by_role("dialog", name="Cancel batch", exact=True)
            await dialog.get_by_role("button", name="Cancel batch", exact=True).click()
            await expect(page.get_by_text("3 jobs are cancelled.", exact=True)).to_be_visible()
            await expect(page.get_by_role("button", name="Retry batch", exact=True)).to_be_visible()

            await main.get_by_role("link", name="Actions", exact=True).click()
            actions = page.get_by_role("table", name="Actions", exact=True)
            await expect(actions.get_by_role("row").nth(1)).to_contain_text("batch_cancel")
            await expect(actions.get_by_role("row").nth(2)).to_contain_text("a gift")
            assert window.faults == []
        async with visit(browser, str(client.base_url).rstrip("/"), scripts=False) as window:
            page = window.page
            await page.goto(f"/users/{user}")
            await page.get_by_role("button", name="Grant tokens", exact=True).click()
            await page.get_by_role("textbox", name="Tokens", exact=True).fill("-9")
            await page.get_by_role("button", name="Grant tokens", exact=True).click()
            await expect(page.get_by_role("group", name="Balance", exact=True)).to_contain_text("116")
