"""The commands generate, modify and costs, as a person calls them."""

from datetime import UTC, datetime

import pytest

from models.gate.provider_calls import CallOutcome, CallPlan, close_call, open_call
from tests.support.builders import balance_of, make_claim, make_user
from tests.support.imaging_pictures import encoded, photo


def test_generate_keeps_the_aspect_with_the_job(darkroom, arrange):
    user = arrange(lambda database: make_user(database, balance=10))
    ran = darkroom("generate", "a cat", "--aspect", "16:9", "--tier", "2k", "--user", user, "--no-wait", "--json")
    payload = arrange(lambda database: database.fetchval("SELECT payload FROM darkroom.job_queue"))

    assert (ran.code, ran.json["type"], ran.json["prompt"]) == (0, "GENERATE", "a cat")
    assert payload == {"aspect": "16:9"}


def test_modify_stores_its_input_first(darkroom, arrange, tmp_path):
    path = tmp_path / "in.png"
    path.write_bytes(encoded(photo(40, 30), "PNG"))
    user = arrange(lambda database: make_user(database, balance=10))

    ran = darkroom("modify", str(path), "make it blue", "--user", user, "--no-wait", "--json")

    key = ran.json["inputImageR2Key"]
    assert (ran.code, ran.json["type"]) == (0, "MODIFY")
    assert key.startswith(f"mcp-input/{user}/")
    assert (tmp_path / "objects" / key).exists()


SMALL = "gemini-3.1-flash-lite-image"


def test_tier_that_no_model_makes_is_refused_by_setting_and_costs_nothing(darkroom, arrange, monkeypatch, tmp_path):
    for name, value in {"PROVIDER": "gemini", "GEMINI_API_KEY": "x", "DARKROOM_GEMINI_IMAGE_MODEL": SMALL}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DARKROOM_OVER_SIZE", "refuse")
    user = arrange(lambda database: make_user(database, balance=100))
    refused = darkroom("generate", "a cat", "--tier", "4k", "--user", user, "--no-wait")
    taken = darkroom("generate", "a cat", "--tier", "1k", "--user", user, "--no-wait", "--json")
    monkeypatch.setenv("PROVIDER", "gemini,local")  # which makes every size, and nothing of words
    also_refused = darkroom("generate", "a cat", "--tier", "4k", "--user", user, "--no-wait")
    path = tmp_path / "in.png"
    path.write_bytes(encoded(photo(40, 30), "PNG"))
    enhanced = darkroom("enhance", str(path), "--tier", "4k", "--user", user, "--no-wait", "--json")

    assert (refused.code, taken.code, also_refused.code, enhanced.code) == (1, 0, 1, 0)
    assert f"{SMALL} makes pictures of at most 1024 pixels, and the tier has 4096" in refused.err
    assert arrange(lambda database: database.fetchval("SELECT count(*) FROM darkroom.job_queue")) == 2


def test_generation_for_later_waits_and_says_so(darkroom, arrange):
    user = arrange(make_user)

    ran = darkroom("generate", "a cat", "--at", "+2h", "--user", user, "--no-wait", "--json")

    assert (ran.code, ran.json["status"]) == (0, "PENDING")
    (queue,) = darkroom("queue", "stats", "--json").json["queues"]
    assert (queue["scheduled"], queue["waiting"], queue["oldest_wait_s"]) == (1, 0, 0)
    assert "its producer wants it to begin at" in darkroom("jobs", "explain", ran.json["id"]).out
    assert darkroom("jobs", "show", ran.json["id"], "--json").json["queue"]["run_at"] == queue["next_due_at"]


@pytest.mark.parametrize("at", ["tomorrow", "2030-03-01T09:00:00", "3000-01-01T00:00:00Z"])
def test_time_that_is_none_is_refused_and_costs_nothing(darkroom, arrange, at):
    user = arrange(lambda database: make_user(database, balance=10))

    assert darkroom("generate", "a cat", "--at", at, "--user", user, "--no-wait").code in {1, 2}

    assert arrange(lambda database: balance_of(database, user)) == 10


@pytest.mark.parametrize(
    "arguments",
    [("generate", " "), ("generate", "a cat", "--aspect", "1:9"), ("generate", "a cat", "--aspect", "wide")],
)
def test_senseless_generation_is_a_usage_error(darkroom, arguments):
    assert darkroom(*arguments).code == 2


def test_costs_are_added_up_and_the_switch_is_recorded(darkroom, arrange):
    async def bought(database):
        claim = await make_claim(database)
        for price in (1, 2):
            plan = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=price, images=1)
            opened = await database.run(lambda connection, plan=plan: open_call(connection, claim, plan))
            outcome = CallOutcome("answered", may_be_paid=True, latency_ms=1, images=1)
            await database.run(lambda c, opened=opened, outcome=outcome: close_call(c, opened.intent, outcome))
        free = await make_claim(database)
        plan = CallPlan("local", "generate", may_be_paid=False, model="local")
        await database.run(lambda connection: open_call(connection, free, plan))
        return claim.user_id, claim.job_id

    user, job = arrange(bought)
    (by_model,), (by_user,) = (darkroom("costs", "--by", by, "--json").json for by in ("model", "user"))
    (by_day,), (by_job,) = (darkroom("costs", "--by", by, "--json").json for by in ("day", "job"))
    of_job, of_none = (darkroom("costs", "--job", one, "--json").json for one in (job, "none"))
    table = darkroom("costs", "--by", "job").out
    stopped = darkroom("costs", "--stop", "--reason", "too dear", "--json").json
    actions = arrange(lambda database: database.fetch("SELECT action, reason FROM darkroom.operator_actions"))
    resumed = darkroom("costs", "--resume")

    assert (by_model["provider"], by_model["model"], by_model["calls"], by_model["cost_usd"]) == ("gemini", "m", 2, 3)
    assert (by_user["user"], by_user["cost_usd"]) == (f"user:{user}", 3)
    assert (by_day["day"], by_day["cost_usd"]) == (f"{datetime.now(UTC):%Y-%m-%d}", 3)
    assert (by_job["type"], by_job["job"], by_job["images"], by_job["cost_usd"]) == ("enhance", job, 2, 3)
    assert (of_job, of_none) == ([by_model], [])
    assert job in table
    assert "3.0000" in table
    assert (stopped["stopped"], stopped["reason"]) == (True, "too dear")
    assert [tuple(row) for row in actions] == [("buying", "too dear")]
    assert resumed.out == "buying goes on\n"
