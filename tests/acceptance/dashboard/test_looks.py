"""How pages look and are read: no barriers, no sideways scrolling, nothing from elsewhere."""

import pytest
import pytest_asyncio

from tests.support.browser import launched, visit
from tests.support.dashboard_app import shown

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAGES = ("/",)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser():
    async with launched() as browser:
        yield browser


@pytest.mark.parametrize("width_px", [390, 1280])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
async def test_page_has_no_barriers(browser, database_url, services, width_px, is_dark):
    async with shown(database_url, services) as client:
        url = str(client.base_url).rstrip("/")
        async with visit(browser, url, width_px=width_px, is_dark=is_dark) as window:
            for path in PAGES:
                await window.page.goto(path)
                assert await window.barriers() == [], path
                assert window.faults == [], path
