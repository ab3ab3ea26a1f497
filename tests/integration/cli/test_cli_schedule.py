"""`darkroom schedule`, as an operator calls it."""

import pytest

from tests.support.builders import make_user
from tests.support.calling import Arrange, Darkroom
from tests.support.periodic_rows import regeneration_of

FIELDS = [
    *("name", "schedule", "time_zone", "missed", "paused", "last_run", "next_run", "last_counts"),
    *("last_duration_s", "last_error"),
]
NAMES = {"regenerate-tokens", "renew-subscriptions", "expire-vouchers", "collect-orphans", "audit-ledger"}


def rows_by_name(darkroom: Darkroom) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in darkroom("schedule", "list", "--json").json}


def test_list_shows_every_task_with_its_fields(darkroom: Darkroom):
    rows = rows_by_name(darkroom)

    assert {"roll-up-usage", "prune-error_logs", "prune-stage_runs", *NAMES} <= rows.keys()
    assert all(list(row) == FIELDS for row in rows.values())
    assert rows["regenerate-tokens"]["schedule"] == "*/15 * * * *"
    assert darkroom("schedule", "list").code == 0


def test_run_makes_a_tick_at_a_time_and_does_nothing_twice(darkroom: Darkroom, arrange: Arrange):
    user_id = arrange(lambda database: make_user(database, balance=0))

    dry = darkroom("schedule", "run", "regenerate-tokens", "--at", "2099-01-01T00:00:00Z", "--dry-run", "--json").json
    first = darkroom("schedule", "run", "regenerate-tokens", "--at", "2099-01-01T00:00:00Z", "--json").json
    second = darkroom("schedule", "run", "regenerate-tokens", "--at", "2099-01-01T00:00:00Z", "--json").json

    balance, _last = arrange(lambda database: regeneration_of(database, user_id))
    assert dry == first
    assert (first["users"], first["tokens"]) == (1, balance)
    assert second == {"users": 0, "tokens": 0}
    row = rows_by_name(darkroom)["regenerate-tokens"]
    assert (row["last_counts"], row["last_error"]) == (second, None)
    assert row["last_run"] is not None


def test_pause_and_resume(darkroom: Darkroom):
    assert darkroom("schedule", "pause", "audit-ledger", "--json").json["paused"] is True
    assert rows_by_name(darkroom)["audit-ledger"]["next_run"] is None
    assert darkroom("schedule", "resume", "audit-ledger").code == 0
    row = rows_by_name(darkroom)["audit-ledger"]
    assert (row["paused"], row["next_run"] is not None) == (False, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("run", "regenerate"), 1, "regenerate-tokens"),
        (("pause", "nothing"), 1, "darkroom schedule list"),
        (("run", "audit-ledger", "--at", "soon"), 2, "2026-03-01T00:00:00Z"),
    ],
)
def test_what_is_wrong_is_said(darkroom: Darkroom, arguments, code, words):
    ran = darkroom("schedule", *arguments)

    assert ran.code == code
    assert words in ran.err


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("DARKROOM_SCHEDULES", '{"audit-ledger": "whenever"}', "schedule 'whenever'"),
        ("DARKROOM_SCHEDULES", '{"audit-legder": "PT15M"}', "names audit-legder; known are"),
        ("DARKROOM_SCHEDULES", '{"audit-ledger": {"time_zone": "Mars/X"}}', "'Mars/X'"),
        ("DARKROOM_RETENTION", "visits=3", "retention of visits: name its time column"),
    ],
)
def test_schedule_and_retention_that_no_scheduler_takes_are_refused_by_every_command(
    darkroom: Darkroom, monkeypatch, variable, value, words
):
    monkeypatch.setenv(variable, value)

    ran = darkroom("jobs", "list")

    assert ran.code == 2
    assert variable in ran.err
    assert words in ran.err


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (None, "removes what an earlier run reported: Darkroom made the tables"),
        ("report", "only reports: DARKROOM_ORPHANS=report"),
        ("delete", "removes what an earlier run reported: DARKROOM_ORPHANS=delete"),
    ],
)
def test_list_and_doctor_say_what_becomes_of_orphans(darkroom: Darkroom, monkeypatch, setting, words):
    if setting is not None:
        monkeypatch.setenv("DARKROOM_ORPHANS", setting)

    listed = darkroom("schedule", "list")
    (check,) = [check for check in darkroom("doctor", "--json").json["checks"] if check["name"] == "orphans"]

    assert words in listed.err
    assert check["status"] == "ok"
    assert words.partition(": ")[2] in check["message"]


def test_orphans_setting_of_another_word_is_refused(darkroom: Darkroom, monkeypatch):
    monkeypatch.setenv("DARKROOM_ORPHANS", "keep")

    ran = darkroom("schedule", "list")

    assert ran.code == 2
    assert "DARKROOM_ORPHANS='keep'" in ran.err
    assert "'report' or 'delete'" in ran.err


def test_doctors_probe_leaves_neither_object_nor_row(darkroom: Darkroom, arrange: Arrange, tmp_path):
    darkroom("doctor")

    assert (
        arrange(lambda database: database.fetchval("SELECT count(*) FROM darkroom.objects WHERE job_type = 'probe'"))
        == 0
    )
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []
