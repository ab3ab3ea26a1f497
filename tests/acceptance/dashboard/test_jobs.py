"""Jobs in a browser: how their pages look, and a retry by the keyboard alone, followed without a reload."""

import contextlib

import pytest
import pytest_asyncio
from playwright.async_api import expect

from config.postgres_url import parse_postgres_url
from models.database import Database
from pipelines.storage.backends import open_storage
from tests.integration.dashboard.test_job import CROPPED, make_done
from tests.support.browser import launched, visit
from tests.support.builders import make_job, make_user, set_status
from tests.support.dashboard_app import shown

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with launched() as browser:
        yield browser


@contextlib.asynccontextmanager
async def opened(database_url):
    database = Database(parse_postgres_url(database_url), most_connections=2)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


async def test_pages_of_jobs_have_no_barriers(browser, database_url, services, tmp_path):
    (tmp_path / "objects").mkdir()
    storage_url = (tmp_path / "objects").as_uri()
    async with opened(database_url) as database, shown(database_url, services, storage_url=storage_url) as client:
        job = await make_done(database, open_storage(storage_url), **CROPPED)
        for width_px, is_dark in ((360, False), (390, True), (1280, False), (1280, True)):
            async with visit(browser, str(client.base_url).rstrip("/"), width_px=width_px, is_dark=is_dark) as window:
                for path in ("/jobs", f"/jobs/{job}", "/matching/cancel"):
                    await window.page.goto(path)
                    assert await window.barriers() == [], path
                    assert await window.sideways_px() == 0, path
                    assert window.faults == [], path


async def test_a_job_is_retried_by_the_keyboard_and_followed(browser, database_url, services, tmp_path):
    (tmp_path / "objects").mkdir()
    storage_url = (tmp_path / "objects").as_uri()
    async with opened(database_url) as database, shown(database_url, services, storage_url=storage_url) as client:
        job = await make_done(database, open_storage(storage_url), **CROPPED)
        user = await make_user(database)
        failed = await make_job(database, user_id=user, status="FAILED", errorMessage="<img src=x onerror=alert(1)>")
        async with visit(browser, str(client.base_url).rstrip("/")) as window:
            page = window.page
            await page.goto(f"/jobs/{job}")
            slider = page.get_by_role("slider", name="Compare before and after", exact=True)
            await slider.focus()
            await page.keyboard.press("Home")
            shown_part = "getComputedStyle(document.querySelector('.compare')).getPropertyValue('--shown')"
            assert await page.evaluate(shown_part) == "0%"
            assert window.faults == []

            await page.goto("/jobs?status=FAILED")
            await page.get_by_role("link", name=failed, exact=True).press("Enter")
            await page.get_by_role("button", name="Retry job", exact=True).press("Enter")
            dialog = page.get_by_role("dialog", name="Retry job", exact=True)
            await dialog.get_by_role("textbox", name="Reason", exact=True).fill("why not")
            await page.keyboard.press("Enter")
            status = page.get_by_role("status", name="Status", exact=True)
            await expect(status).to_have_text("PENDING")
            await expect(page.get_by_role("region", name="Why it waits", exact=True)).to_contain_text("place 1")
            await set_status(database, page.url.rpartition("/")[2], "CANCELLED")
            await expect(status).to_have_text("CANCELLED")
            await expect(page.get_by_role("button", name="Cancel job", exact=True)).to_have_count(0)
        async with visit(browser, str(client.base_url).rstrip("/"), scripts=False) as window:
            page = window.page
            await page.goto(f"/jobs/{job}")
            for name in ("Before", "After"):
                await expect(page.get_by_role("img", name=name, exact=True)).to_be_visible()
            await page.goto("/jobs")
            await page.get_by_role("checkbox", name=f"Select {failed}", exact=True).check()
            await page.get_by_role("button", name="Retry selected", exact=True).click()
            await expect(page.get_by_text("0 jobs, 0 tokens, 1 refused", exact=True)).to_be_visible()
