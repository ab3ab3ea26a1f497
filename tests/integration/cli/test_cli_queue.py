"""`darkroom queue pause` and `resume`, called through the program."""

import pytest

from tests.support.builders import claim_jobs, make_job, queue_row
from tests.support.calling import Arrange, Darkroom


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--queue", "default"), "queue:default"),
        (("--type", "enhance"), "type:enhance"),
        (("--tier", "4k"), "tier:TIER_4K"),
    ],
)
def test_pause_keeps_jobs_and_resume_lets_them_go(
    darkroom: Darkroom, arrange: Arrange, options: tuple[str, str], name: str
) -> None:
    job_id = arrange(lambda db: make_job(db, tier="TIER_4K"))

    paused = darkroom("queue", "pause", *options, "--reason", "maintenance", "--json")
    while_paused = arrange(claim_jobs)
    stats = darkroom("queue", "stats", "--json").json
    resumed = darkroom("queue", "resume", *options)

    assert (paused.code, [pause["name"] for pause in paused.json]) == (0, [name])
    assert while_paused == []
    assert [(row["status"], row["count"]) for row in stats["statuses"]] == [("paused", 1)]
    assert [(one["name"], one["reason"], one["jobs"]) for one in stats["pauses"]] == [(name, "maintenance", 1)]
    assert resumed.out.endswith(": goes on\n")
    assert [claim.job_id for claim in arrange(claim_jobs)] == [job_id]


def test_each_change_of_a_pause_is_recorded_once(darkroom: Darkroom, arrange: Arrange) -> None:
    for verb in ("pause", "pause", "resume", "resume"):
        assert darkroom("queue", verb, "--provider", "gemini", "--reason", verb).code == 0

    actions = arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions ORDER BY id"))
    assert [(row["action"], row["target"], row["reason"]) for row in actions] == [
        ("queue_pause", "provider:gemini", "pause"),
        ("queue_resume", "provider:gemini", "resume"),
    ]
    assert actions[1]["before"]["reason"] == "pause"
    (past,) = arrange(lambda db: db.fetch("SELECT * FROM darkroom.past_pauses"))
    assert (past["name"], past["reason"], past["paused_at"] < past["resumed_at"]) == ("provider:gemini", "pause", True)


def test_pause_moves_waiting_rows_aside_at_once(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)

    darkroom("queue", "pause", "--tier", "1k")

    assert arrange(lambda db: queue_row(db, job_id))["paused_by"] == "tier:TIER_1K"


def test_stats_for_people_name_who_paused_what(darkroom: Darkroom) -> None:
    darkroom("queue", "pause", "--tier", "2k", "--reason", "too dear")
    darkroom("costs", "--stop", "--reason", "runaway")

    out = darkroom("queue", "stats").out

    assert "tier:TIER_2K" in out
    assert "too dear" in out
    assert "runaway" in out


def test_kill_switch_leaves_its_times_for_the_maximum_wait(darkroom: Darkroom, arrange: Arrange) -> None:
    darkroom("costs", "--stop", "--reason", "one")
    darkroom("costs", "--stop", "--reason", "two")
    darkroom("costs", "--resume")

    rows = arrange(lambda db: db.fetch("SELECT * FROM darkroom.past_pauses ORDER BY paused_at"))
    assert [(row["name"], row["reason"]) for row in rows] == [("buying", "one"), ("buying", "two")]
    assert rows[0]["resumed_at"] == rows[1]["paused_at"]
    assert darkroom("queue", "stats", "--json").json["pauses"] == []


def test_pause_of_nothing_is_a_usage_error_and_of_the_unknown_fails(darkroom: Darkroom, arrange: Arrange) -> None:
    nothing, unknown = darkroom("queue", "pause"), darkroom("queue", "pause", "--type", "emboss")

    assert (nothing.code, unknown.code) == (2, 1)
    assert "--queue, --type, --tier or --provider" in nothing.err
    assert "known: blend, enhance, generate, modify" in unknown.err
    assert arrange(lambda db: db.fetch("SELECT * FROM darkroom.operator_actions")) == []
