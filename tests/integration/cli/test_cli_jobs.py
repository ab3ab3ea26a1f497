"""`darkroom jobs` on real rows: list, show, cancel, retry, watch."""

from typing import Any

from tests.support.builders import (
    balance_of,
    claim_jobs,
    job_row,
    make_generation,
    make_image,
    make_job,
    make_user,
    money_violations,
    set_status,
)
from tests.support.calling import Arrange, Darkroom


def test_list_without_jobs_prints_an_empty_array(darkroom: Darkroom) -> None:
    ran = darkroom("jobs", "list", "--json")

    assert (ran.code, ran.json) == (0, [])


def test_list_prints_the_tables_columns(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)

    (row,) = darkroom("jobs", "list", "--json").json

    assert {"id", "imageId", "userId", "tokensCost", "enhancedR2Key", "workflowRunId", "isBlend"} <= row.keys()
    assert (row["id"], row["status"], row["jobType"]) == (job_id, "PENDING", "enhance")
    assert row["createdAt"].endswith("Z")


def test_list_holds_both_tables_and_filters(darkroom: Darkroom, arrange: Arrange) -> None:
    enhancement, generation = arrange(make_job), arrange(make_generation)
    arrange(lambda db: set_status(db, enhancement, "CANCELLED"))

    def ids(*options: str) -> set[str]:
        return {row["id"] for row in darkroom("jobs", "list", "--json", *options).json}

    assert ids() == {enhancement, generation}
    assert ids("--status", "cancelled") == {enhancement}
    assert ids("--type", "generate") == {generation}
    assert len(ids("--limit", "1")) == 1


def test_list_for_people_shows_whole_ids_in_a_pipe(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)

    assert job_id in darkroom("jobs", "list").out


def test_list_of_an_unknown_status_is_a_usage_error(darkroom: Darkroom) -> None:
    ran = darkroom("jobs", "list", "--status", "QUEUED")

    assert ran.code == 2
    assert "PENDING" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_show_gathers_row_queue_history_and_money(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    arrange(claim_jobs)

    job = darkroom("jobs", "show", job_id, "--json").json

    assert (job["id"], job["status"], job["queue"]["status"]) == (job_id, "PROCESSING", "processing")
    assert [run["event"] for run in job["stageRuns"]] == ["claimed"]
    assert [(entry["kind"], entry["amount"]) for entry in job["money"]] == [("charge", 2)]
    assert darkroom("jobs", "show", job_id).code == 0


def test_show_of_an_unknown_job_fails_with_one_line(darkroom: Darkroom) -> None:
    ran = darkroom("jobs", "show", "nosuch")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "darkroom: job nosuch not found; `darkroom jobs list` shows the newest\n"


def test_cancel_refunds_and_is_recorded(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    job_id = arrange(lambda db: make_job(db, user_id=user_id))

    ran = darkroom("jobs", "cancel", job_id, "--reason", "by mistake")

    assert (ran.code, ran.out) == (0, f"job {job_id} is CANCELLED\n")
    assert arrange(lambda db: balance_of(db, user_id)) == 100
    after = {"status": "CANCELLED", "jobType": "enhance"}
    assert _actions(arrange) == [("job_cancel", job_id, {"status": "PENDING"}, after, "by mistake")]
    assert arrange(money_violations) == []


def test_cancel_again_succeeds_and_records_nothing_more(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)

    codes = [darkroom("jobs", "cancel", job_id).code for _ in range(2)]

    assert codes == [0, 0]
    assert len(_actions(arrange)) == 1


def test_cancel_of_a_finished_job_fails_and_others_go_on(darkroom: Darkroom, arrange: Arrange) -> None:
    finished = arrange(lambda db: make_job(db, status="COMPLETED"))
    waiting = arrange(make_job)

    ran = darkroom("jobs", "cancel", finished, waiting, "--json")

    assert ran.code == 1
    assert [(row["id"], row["status"]) for row in ran.json] == [(waiting, "CANCELLED")]
    assert f"job {finished} is COMPLETED already" in ran.err


def test_retry_is_a_new_job_with_its_own_charge(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    old = arrange(lambda db: make_job(db, user_id=user_id))
    arrange(lambda db: set_status(db, old, "FAILED"))

    (new,) = darkroom("jobs", "retry", old, "--json").json

    assert new["id"] != old
    assert (new["status"], new["tokensCost"]) == ("PENDING", 2)
    assert arrange(lambda db: job_row(db, old))["status"] == "FAILED"
    assert arrange(lambda db: balance_of(db, user_id)) == 98
    assert _actions(arrange)[0][:2] == ("job_retry", old)


def test_retry_of_a_generation_keeps_its_prompt(darkroom: Darkroom, arrange: Arrange) -> None:
    old = arrange(lambda db: make_generation(db, prompt="two cats"))
    arrange(lambda db: set_status(db, old, "CANCELLED"))

    (new,) = darkroom("jobs", "retry", old, "--json").json

    assert (new["prompt"], new["type"], new["jobType"]) == ("two cats", "GENERATE", "generate")


def test_retry_refuses_what_has_not_failed(darkroom: Darkroom, arrange: Arrange) -> None:
    waiting, finished = arrange(make_job), arrange(lambda db: make_job(db, status="COMPLETED"))

    ran = darkroom("jobs", "retry", waiting, finished)

    assert ran.code == 1
    assert f"job {waiting} is PENDING; only FAILED, REFUNDED and CANCELLED jobs can be retried" in ran.err
    assert f"job {finished} is COMPLETED" in ran.err


def test_retry_without_tokens_changes_nothing(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(lambda db: make_user(db, balance=0))
    old = arrange(lambda db: make_job(db, user_id=user_id, status="FAILED"))

    ran = darkroom("jobs", "retry", old)

    assert ran.code == 1
    assert "needed 2, available 0" in ran.err
    assert len(darkroom("jobs", "list", "--json").json) == 1
    assert _actions(arrange) == []


def test_retry_of_a_blend_without_its_second_picture_is_refused(darkroom: Darkroom, arrange: Arrange) -> None:
    old = arrange(lambda db: make_job(db, status="FAILED", isBlend=True))

    ran = darkroom("jobs", "retry", old)

    assert ran.code == 1
    assert "second picture is deleted" in ran.err


def test_watch_of_finished_jobs_exits_by_their_end(darkroom: Darkroom, arrange: Arrange) -> None:
    done = arrange(lambda db: make_job(db, status="COMPLETED"))
    failed = arrange(lambda db: make_job(db, status="FAILED"))

    good, bad = darkroom("jobs", "watch", done), darkroom("jobs", "watch", done, failed, "--json")

    assert (good.code, bad.code) == (0, 1)
    assert f"{done}  enhance TIER_1K  COMPLETED" in good.out
    assert [row["id"] for row in bad.json] == [done, failed]


def test_watch_with_nothing_to_watch_says_so(darkroom: Darkroom) -> None:
    ran = darkroom("jobs", "watch")

    assert (ran.code, ran.out, ran.err) == (0, "", "no job is unfinished\n")


def test_blend_is_retried_as_a_blend(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    source_id = arrange(lambda db: make_image(db, user_id))
    old = arrange(lambda db: make_job(db, user_id=user_id, status="FAILED", isBlend=True, sourceImageId=source_id))

    (new,) = darkroom("jobs", "retry", old, "--json").json

    assert (new["jobType"], new["sourceImageId"]) == ("blend", source_id)


def _actions(arrange: Arrange) -> list[Any]:
    rows = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions ORDER BY id"))
    return [(row["action"], row["target"], row["before"], row["after"], row["reason"]) for row in rows]
