"""Metrics and health of the dashboard's own process."""

import re

from tests.integration.dashboard.conftest import add, site_of

TOKEN = "a-token-of-tests-which-is-long-enough"


async def test_metrics_show_requests_by_the_pattern_of_their_path(site):
    browser = await site.browser()
    await browser.get("/jobs/no-such-job")
    await browser.get("/nosuch")
    await browser.request("BREW", "/")

    scrape = await browser.get("/metrics")

    assert (scrape.status_code, scrape.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert re.search(r'http_request_seconds_count\{route="/jobs/\{id\}",method="GET",status="404"\} 1', scrape.text)
    assert 'method="other"' in scrape.text
    assert "no-such-job" not in scrape.text
    assert "nosuch" not in scrape.text
    assert "darkroom_watchers 0.0" in scrape.text
    assert "darkroom_build_info{version=" in scrape.text


async def test_health_needs_no_sign_in_and_says_what_it_looked_at(site):
    await add(site.dashboard.runtime.database)
    browser = await site.browser()

    health, ready = await browser.get("/healthz"), await browser.get("/readyz")

    assert (health.status_code, health.text) == (200, "ok")
    assert ready.status_code == 200
    assert {one["name"]: one["status"] for one in ready.json()["checks"]} == {
        "database": "ok",
        "migrations": "ok",
        "stopping": "ok",
    }
    assert (await browser.get("/metrics")).status_code == 200, "loopback"


async def test_api_takes_the_token_alone(served, tmp_path):
    async with site_of(served, tmp_path, api_token=TOKEN) as site:
        await add(site.dashboard.runtime.database)
        browser = await site.browser()
        for token, status in (("wrong", 401), (TOKEN, 404)):
            answer = await browser.get("/api/nosuch", headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
