"""`darkroom jobs run-now` and `jobs reschedule`: which jobs get another due time, and which are refused."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.builders import claim_jobs, make_job, queue_row
from tests.support.calling import Arrange, Darkroom

WAITS = """
UPDATE darkroom.job_queue SET status = 'retrying', ready = false, scheduled_at = now() + interval '1 hour', attempts = 1
"""
REFUSED = f"{WAITS}, refused_since = now(), refusals = 1, refused_state = '23514'"
FOR_PRODUCER = "UPDATE darkroom.job_queue SET status = 'retrying', ready = false, scheduled_at = 'infinity'"


@pytest.fixture
def waiting(arrange: Arrange) -> str:
    """A job that waits an hour for its retry."""
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch(WAITS))
    return job_id


def test_run_now_makes_a_waiting_job_claimable_and_its_history_says_by_whom(
    darkroom: Darkroom, arrange: Arrange, waiting: str
) -> None:
    ran = darkroom("jobs", "run-now", waiting, "--reason", "asked")

    assert (ran.code, ran.out) == (0, f"job {waiting} is due now\n")
    assert [claim.job_id for claim in arrange(claim_jobs)] == [waiting]
    assert arrange(lambda db: queue_row(db, waiting))["attempts"] == 2
    assert "made due at once by" in darkroom("jobs", "explain", waiting).out


@pytest.mark.parametrize("words", [("run-now",), ("reschedule", "--at", "+20h")], ids=lambda words: words[0])
def test_job_for_later_that_begins_earlier_has_its_maximum_wait_counted_from_there(
    darkroom: Darkroom, arrange: Arrange, words: tuple[str, ...]
) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch(f"{WAITS}, run_at = now() + interval '7 days'"))
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '3 days'"))

    assert darkroom("jobs", words[0], job_id, *words[1:]).code == 0

    row = arrange(lambda db: queue_row(db, job_id))
    assert row["run_at"] == row["scheduled_at"]


def test_job_for_later_can_wait_for_its_maximum_wait_from_its_time_on(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch(f"{WAITS}, run_at = now() + interval '7 days'"))
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '3 days'"))

    later, too_late = (darkroom("jobs", "reschedule", job_id, "--at", at) for at in ("+7d", "+9d"))

    assert (later.code, too_late.code) == (0, 1)


def test_run_now_of_a_job_the_database_refused_has_it_tried_again_row_by_row(
    darkroom: Darkroom, arrange: Arrange
) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: db.fetch(REFUSED))

    assert darkroom("jobs", "run-now", job_id).code == 0

    row = arrange(lambda db: queue_row(db, job_id))
    assert (row["status"], row["ready"], row["refusals"]) == ("retrying", False, 1)
    assert row["scheduled_at"] <= datetime.now(UTC) + timedelta(seconds=5)


def test_run_now_of_a_job_that_waits_its_turn_changes_and_records_nothing(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    before = arrange(lambda db: queue_row(db, job_id))

    assert darkroom("jobs", "run-now", job_id).code == 0

    assert arrange(lambda db: queue_row(db, job_id)) == before
    assert arrange(lambda db: db.fetch("SELECT FROM darkroom.operator_actions")) == []


@pytest.mark.parametrize("waits", [True, False], ids=["retrying", "pending"])
@pytest.mark.parametrize(("at", "after_s"), [("+2h", 7200), ("absolute", 5400)])
def test_reschedule_moves_a_job_to_a_time(
    darkroom: Darkroom, arrange: Arrange, at: str, after_s: int, *, waits: bool
) -> None:
    job_id = arrange(make_job)
    if waits:
        arrange(lambda db: db.fetch(WAITS))
    wanted = datetime.now(UTC) + timedelta(seconds=after_s)

    ran = darkroom("jobs", "reschedule", job_id, "--at", wanted.isoformat() if at == "absolute" else at)

    assert ran.code == 0
    row = arrange(lambda db: queue_row(db, job_id))
    assert (row["status"], row["ready"]) == ("retrying", False)
    assert abs(row["scheduled_at"] - wanted) < timedelta(seconds=20)
    assert arrange(claim_jobs) == []
    assert "made due at " in darkroom("jobs", "explain", job_id).out


def test_job_that_is_paused_comes_back_at_its_new_time_to_its_pause(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    darkroom("queue", "pause", "--tier", "1k")

    due, moved = darkroom("jobs", "run-now", job_id), darkroom("jobs", "reschedule", job_id, "--at", "+1h")

    assert (due.code, "tier:TIER_1K is paused" in due.err, moved.code) == (1, True, 0)
    assert arrange(lambda db: queue_row(db, job_id))["paused_by"] is None


@pytest.mark.parametrize("words", [("run-now",), ("reschedule", "--at", "+1h")], ids=lambda words: words[0])
def test_job_that_does_not_wait_is_left_alone_in_words(
    darkroom: Darkroom, arrange: Arrange, words: tuple[str, ...]
) -> None:
    running = arrange(make_job)
    arrange(claim_jobs)
    over = arrange(lambda db: make_job(db, status="COMPLETED"))
    unfinished = arrange(make_job)
    arrange(lambda db: db.fetch(f"{FOR_PRODUCER} WHERE job_id = $1", unfinished))
    before = arrange(lambda db: queue_row(db, running))

    ran = darkroom("jobs", words[0], running, over, unfinished, "no-such-job", *words[1:])

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.splitlines() == [
        f"darkroom: job {running} is PROCESSING; only jobs that wait can be given another time",
        f"darkroom: job {over} is COMPLETED; only jobs that wait can be given another time",
        f"darkroom: job {unfinished} waits for its producer, who alone can make it due",
        "darkroom: job no-such-job not found; `darkroom jobs list` shows the newest",
    ]
    assert arrange(lambda db: queue_row(db, running)) == before


@pytest.mark.parametrize(
    ("at", "code", "said"),
    [
        ("tomorrow", 2, "'tomorrow' is no time"),
        ("+2 weeks", 2, "'+2 weeks' is no time"),
        ("2030-03-01T09:00:00", 2, "has no zone; give 2030-03-01T09:00:00Z for UTC"),
        ("2030-03-01", 2, "has no zone; give 2030-03-01T00:00:00Z for UTC"),
        ("0001-01-01T00:00:00+14:00", 2, "is no time"),
        ("9999-12-31T23:00:00-14:00", 2, "is no time"),
        ("2020-03-01T09:00:00Z", 1, "2020-03-01 09:00:00 UTC is past"),
        ("+25h", 1, "DARKROOM_MAX_WAIT_S"),
        ("+999999d", 1, "DARKROOM_MAX_WAIT_S"),
    ],
)
def test_time_that_cannot_be_is_refused(
    darkroom: Darkroom, arrange: Arrange, waiting: str, at: str, code: int, said: str
) -> None:
    before = arrange(lambda db: queue_row(db, waiting))

    ran = darkroom("jobs", "reschedule", waiting, "--at", at)

    assert (ran.code, said in ran.err) == (code, True)
    assert arrange(lambda db: queue_row(db, waiting)) == before


def test_maximum_wait_of_a_new_time_does_not_count_pauses(darkroom: Darkroom, arrange: Arrange, waiting: str) -> None:
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = now() - interval '23 hours' WHERE true"))
    refused = darkroom("jobs", "reschedule", waiting, "--at", "+2h")
    arrange(
        lambda db: db.fetch(
            """INSERT INTO darkroom.past_pauses (name, paused_at, resumed_at)
               VALUES ('tier:TIER_1K', now() - interval '20 hours', now() - interval '10 hours')"""
        )
    )

    assert (refused.code, darkroom("jobs", "reschedule", waiting, "--at", "+2h").code) == (1, 0)
