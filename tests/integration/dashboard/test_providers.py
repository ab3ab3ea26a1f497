"""The page Providers: whether each may be called, budgets, costs, and the kill switch."""

from decimal import Decimal

from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, open_call
from models.periodic.usage import roll_up_month
from pipelines.settings import Settings
from tests.support.builders import make_claim
from tests.support.dashboard_app import shown
from tests.support.page_reader import read_page

PLAN = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=Decimal("0.5"), images=1)
RULES = {"breaker_failures": 1, "breaker_s": 300}
HOSTILE = "<img src=x onerror=alert(1)> {{7*7}}"


async def call(database, outcome, verdict, **more):
    claim = await make_claim(database)
    opened = await database.run(lambda connection: open_call(connection, claim, PLAN))
    assert isinstance(opened, Admitted)
    end = CallOutcome(
        outcome, may_be_paid=True, latency_ms=9, cost_usd=Decimal("0.25"), images=1, verdict=verdict, **more
    )
    await database.run(lambda connection: close_call(connection, opened.intent, end, RULES))


def settings_of(**values):
    return Settings(provider=("gemini",), gemini_api_key="x" * 20, **values)


async def test_costs_are_there_at_once_and_stay_when_they_are_rolled_up(database, database_url, services):
    day = await database.fetchval("SELECT (now() AT TIME ZONE 'utc')::date")
    await call(database, "answered", "answered")
    async with shown(database_url, services, settings=settings_of()) as client:
        before = read_page((await client.get("/providers")).text)
    await database.run(lambda connection: roll_up_month(connection, day.replace(day=1)))
    await call(database, "answered", "answered")
    async with shown(database_url, services, settings=settings_of()) as client:
        after = read_page((await client.get("/providers")).text)

    assert before.get("table", "Costs").rows() == [[str(day), "gemini", "1", "1", "1", "0.25 USD"]]
    assert after.get("table", "Costs").rows() == [[str(day), "gemini", "2", "2", "2", "0.5 USD"]]


async def test_budgets_say_what_is_spent_of_them(database, database_url, services):
    await call(database, "answered", "answered")
    budgets = {"day_usd": 1.0, "total_calls": 100.0, "user_day_usd": 2.0}

    async with shown(database_url, services, settings=settings_of(budgets=budgets)) as client:
        page = read_page((await client.get("/providers")).text)

    assert page.get("table", "Budgets").rows() == [
        ["day_usd", "0.25 USD", "1 USD", "25 %"],
        ["total_calls", "1", "100", "1 %"],
        ["user_day_usd", "counted by user", "2 USD", "-"],
    ]


async def test_throttled_broken_and_paused_providers_say_so(database, database_url, services):
    await call(database, "ThrottledError", "throttled", retry_after_s=500)
    async with shown(database_url, services, settings=settings_of()) as client:
        text = (await client.get("/providers")).text
        page = read_page(text)
        await client.post("/providers/provider/local/pause", data={"reason": HOSTILE})
        paused_text = (await client.get("/providers")).text
        paused = read_page(paused_text)

    rows = {row[0]: row for row in page.get("table", "Providers").rows()}
    assert list(rows) == ["gemini", "local", "openai"]
    assert rows["gemini"][2:4] == ["1", "no: it asked to be left alone"]
    assert rows["gemini"][4] != "-"
    assert rows["local"][2:7] == ["-", "not used", "-", "closed", "no"]
    local = {row[0]: row for row in paused.get("table", "Providers").rows()}["local"]
    assert local[6].endswith(f"by tester: {HOSTILE}")
    assert "<img" not in paused_text
    paused.get("button", "Resume local")


async def test_open_breaker_is_shown_and_closed_by_resume(database, database_url, services):
    await call(database, "ProviderUnavailableError", "failed", reason=HOSTILE)

    async with shown(database_url, services, settings=settings_of()) as client:
        text = (await client.get("/providers")).text
        answer = await client.post("/providers/provider/gemini/resume")
        after = read_page((await client.get("/providers")).text)

    page = read_page(text)
    breaker = page.get("table", "Providers").rows()[0][5]
    assert breaker.startswith("open until ")
    assert breaker.endswith(HOSTILE)
    page.get("button", "Pause gemini")
    page.get("button", "Resume gemini")
    assert (answer.status_code, answer.headers["location"]) == (303, "/providers")
    assert after.get("table", "Providers").rows()[0][5] == "closed"
    assert after.get("status").text == "provider gemini: goes on, its breaker is closed"
    assert [one.name for one in after.find("button") if one.name.endswith("gemini")] == ["Pause gemini"]


async def test_buying_is_stopped_and_resumed(database, database_url, services):
    async with shown(database_url, services, settings=settings_of()) as client:
        read_page((await client.get("/providers")).text).get("button", "Stop buying")
        form = read_page((await client.get("/buying/stop")).text)
        await client.post("/buying/stop", data={"reason": HOSTILE})
        stopped = read_page((await client.get("/providers")).text)
        await client.post("/buying/resume")
        resumed = read_page((await client.get("/providers")).text)

    form.get("textbox", "Reason")
    form.get("button", "Stop buying")
    stopped.get("button", "Resume buying")
    assert stopped.get("table", "Providers").rows()[0][3] == f"no: buying is stopped: {HOSTILE}"
    assert (stopped.get("status").text, resumed.get("status").text) == ("buying is stopped", "buying goes on")
    resumed.get("button", "Stop buying")
    rows = await database.fetch("SELECT actor, action, reason FROM darkroom.operator_actions ORDER BY id")
    assert [tuple(row) for row in rows] == [("tester", "buying", HOSTILE), ("tester", "buying", None)]


async def test_what_is_said_of_an_action_fits_into_a_cookie(database_url, services):
    reason = "".join(chr(0x1F300 + number) for number in range(700))

    async with shown(database_url, services, settings=settings_of()) as client:
        await client.post("/buying/stop", data={"reason": reason})
        answer = await client.post("/providers/provider/gemini/resume")
        said = read_page((await client.get("/providers")).text).get("status").text

    assert len(answer.headers["set-cookie"]) < 4_000
    assert "isn't called yet: buying is stopped: \U0001f300\U0001f301" in said


async def test_viewer_is_offered_nothing(database_url, services):
    async with shown(database_url, services, role="viewer") as client:
        page = read_page((await client.get("/providers")).text)

    assert not [one for one in page.find("button") if one.name.startswith(("Stop", "Pause", "Resume"))]
