"""Commands about provider calls: those left open by dead workers, and breakers."""

from decimal import Decimal

import pytest

from models.gate.provider_calls import Admitted, CallOutcome, CallPlan, close_call, generations, open_call
from models.history.findings import look_for
from models.queue.claims import Claim
from tests.support.builders import claim_jobs, make_claim
from tests.support.calling import Arrange, Darkroom

PLAN = CallPlan("gemini", "generate", may_be_paid=True, model="m", price_usd=Decimal("0.04"), images=1)
COUNTED = "SELECT scope, name, window_start, used, state - 'counted_at' AS state FROM darkroom.limits ORDER BY 1, 2, 3"
LONG_AGO = "UPDATE darkroom.provider_calls SET started_at = started_at - interval '20 minutes'"
DIED = "UPDATE darkroom.job_queue SET status = 'pending', ready = true, worker_id = NULL, lease_token = NULL"


async def begin(db) -> tuple[Claim, int]:
    """Open a call for a job that is claimed; return its claim and the call."""
    claim = await make_claim(db)
    opened = await db.commit("open_call", lambda connection: open_call(connection, claim, PLAN))
    assert isinstance(opened, Admitted)
    return claim, opened.intent


async def leave_open(db) -> tuple[Claim, int]:
    claim, call = await begin(db)
    await db.fetch(LONG_AGO)
    await db.fetch(DIED)
    return claim, call


async def reported(db) -> int:
    """How many calls left open `doctor` reports."""
    return (await db.run(lambda connection: look_for(connection, "provider calls"))).count


def test_call_that_is_acknowledged_counts_as_before_and_is_reported_no_more(
    darkroom: Darkroom, arrange: Arrange
) -> None:
    claim, call = arrange(leave_open)
    before = arrange(lambda db: db.fetch(COUNTED))
    listed, named = darkroom("costs", "--open", "--json").json, arrange(reported)

    ran = darkroom("costs", "--acknowledge", str(call), "--reason", "not on the bill")
    again = darkroom("costs", "--acknowledge", str(call))

    assert ([one["id"] for one in listed], named) == ([call], 1)
    assert (ran.code, again.code, claim.job_id in ran.out) == (0, 0, True)
    assert (darkroom("costs", "--open").out, arrange(reported)) == ("no call was left open\n", 0)
    assert [dict(row) for row in arrange(lambda db: db.fetch(COUNTED))] == [dict(row) for row in before]
    assert darkroom("costs", "--json").json[0]["cost_usd"] == 0.04
    (calls,) = arrange(lambda db: db.run(lambda connection: generations(connection, [claim])))
    assert [(one.outcome, one.problem) for one in calls] == [("unknown", "a call whose end nobody knows")]
    told = darkroom("jobs", "explain", claim.job_id).out
    assert f"call {call} looked at by" in told
    assert "too late" not in told
    assert len(arrange(lambda db: db.fetch("SELECT FROM darkroom.operator_actions"))) == 1


def test_call_whose_end_may_be_known_yet_is_left_to_its_worker(darkroom: Darkroom, arrange: Arrange) -> None:
    _, in_flight = arrange(begin)
    fresh = darkroom("costs", "--acknowledge", str(in_flight))
    arrange(lambda db: db.fetch(LONG_AGO))
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET started_at = started_at - interval '20 minutes'"))
    long = darkroom("costs", "--acknowledge", str(in_flight))
    answered = CallOutcome("answered", may_be_paid=True, latency_ms=5)
    arrange(lambda db: db.commit("close", lambda connection: close_call(connection, in_flight, answered)))
    ended = darkroom("costs", "--acknowledge", str(in_flight), "999999")

    assert [ran.code for ran in (fresh, long, ended)] == [1, 1, 2]
    assert "may be in flight" in fresh.err
    assert "may be in flight" in long.err
    assert darkroom("costs", "--acknowledge", str(in_flight)).err.endswith("isn't open: it has ended\n")
    assert "call 999999 not found" in darkroom("costs", "--acknowledge", "999999").err


@pytest.mark.parametrize("verdict", ["stopped", "failed"])
def test_resuming_a_provider_closes_its_breaker_and_is_recorded(
    darkroom: Darkroom, arrange: Arrange, verdict: str
) -> None:
    _, call = arrange(begin)
    failed = CallOutcome("down", may_be_paid=True, latency_ms=5, verdict=verdict, reason="down")
    rules = {"breaker_failures": 1}
    arrange(lambda db: db.commit("close", lambda connection: close_call(connection, call, failed, rules)))
    arrange(lambda db: db.fetch(DIED))
    (claim,) = arrange(claim_jobs)

    def attempt():
        return arrange(lambda db: db.commit("open_call", lambda connection: open_call(connection, claim, PLAN)))

    shut = attempt()
    ran = darkroom("queue", "resume", "--provider", "gemini", "--reason", "key renewed")
    again = darkroom("queue", "resume", "--provider", "gemini")

    assert shut.kind == "breaker"
    assert (ran.code, ran.out) == (0, "provider gemini: goes on, its breaker is closed\n")
    assert again.code == 0
    assert isinstance(attempt(), Admitted)
    assert isinstance(attempt(), Admitted)  # and not as the probe of one that is half open
    (action,) = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions"))
    assert (action["action"], action["target"], action["before"]["open_reason"]) == (
        *("breaker_close", "provider:gemini", "down"),
    )


def test_resuming_a_provider_leaves_what_it_asked_for_and_other_providers_alone(
    darkroom: Darkroom, arrange: Arrange
) -> None:
    arrange(
        lambda db: db.fetch(
            """INSERT INTO darkroom.limits (scope, name, window_start, state) VALUES
               ('provider', 'gemini', 'epoch', '{"paused_until": "2100-01-01", "ceiling": 3}'),
               ('provider', 'openai', 'epoch', '{"open_until": "2100-01-01"}')"""
        )
    )

    darkroom("queue", "resume", "--provider", "gemini")

    states = arrange(lambda db: db.fetch("SELECT name, state FROM darkroom.limits ORDER BY name"))
    assert {row["name"]: row["state"] for row in states} == {
        "gemini": {"paused_until": "2100-01-01", "ceiling": 3},
        "openai": {"open_until": "2100-01-01"},
    }


def test_call_of_a_number_that_none_can_have_is_refused_as_usage(darkroom: Darkroom) -> None:
    ran = darkroom("costs", "--acknowledge", str(2**63))

    assert (ran.code, ran.out) == (2, "")
    assert "postgres" not in ran.err.lower()


def test_list_of_open_calls_that_is_cut_says_how_many_there_are(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(begin)
    arrange(lambda db: db.fetch(DIED))
    (again,) = arrange(claim_jobs)
    arrange(lambda db: db.commit("open_call", lambda connection: open_call(connection, again, PLAN)))
    arrange(lambda db: db.fetch(LONG_AGO))
    arrange(lambda db: db.fetch(DIED))

    ran = darkroom("costs", "--open", "--limit", "1")

    assert "1 of 2 calls" in ran.err


def test_resumed_provider_that_cannot_be_called_yet_says_what_still_stops_it(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-for-tests")
    darkroom("costs", "--stop", "--reason", "over budget")

    ran = darkroom("queue", "resume", "--provider", "gemini")

    assert ran.out.endswith("its breaker is closed, but it isn't called yet: buying is stopped: over budget\n")
