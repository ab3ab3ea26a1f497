"""Queues of stages on the command line: recorded by `db upgrade`, and told of where nobody serves or enters them."""

import pytest

from tests.support.builders import claim_jobs, make_generation, make_job, make_worker, queue_row
from tests.support.calling import Arrange, Darkroom


@pytest.fixture
def recorded(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> Darkroom:
    """The program on a database whose stage GENERATING has queue gpu, and an environment that says so."""
    monkeypatch.setenv("DARKROOM_STAGE_QUEUES", "GENERATING=gpu")
    assert darkroom("db", "upgrade").code == 0
    return darkroom


def test_upgrade_moves_waiting_jobs_and_names_the_queue_that_nobody_serves(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated, analyzed = arrange(make_generation), arrange(make_job)
    monkeypatch.setenv("DARKROOM_STAGE_QUEUES", "GENERATING=gpu")
    arrange(make_worker)

    ran = darkroom("db", "upgrade")

    assert ran.code == 0
    assert "moved into the queues of their stages: 1 waiting job" in ran.out
    assert "no live worker takes from queue gpu (1 waiting job); start `darkroom worker --queues gpu`" in ran.out
    assert arrange(lambda db: queue_row(db, generated))["queue"] == "gpu"
    assert arrange(lambda db: queue_row(db, analyzed))["queue"] == "default"
    assert darkroom("db", "upgrade", "--json").json["moved"] == 0


def test_doctor_and_explain_name_the_queue_that_nobody_serves(recorded: Darkroom, arrange: Arrange) -> None:
    arrange(make_worker)
    job_id = arrange(make_generation)

    ran = recorded("doctor", "--json")

    (check,) = [one for one in ran.json["checks"] if one["name"] == "workers"]
    assert (ran.code, check["status"]) == (1, "fail")
    assert "none takes from queue gpu (1 waiting)" in check["message"]
    assert "darkroom worker --queues gpu" in check["advice"]
    assert (
        "no live worker takes from queue gpu; start `darkroom worker --queues gpu`"
        in recorded("jobs", "explain", job_id).out
    )
    arrange(lambda db: make_worker(db, queues=["gpu"]))
    (check,) = [one for one in recorded("doctor", "--json").json["checks"] if one["name"] == "workers"]
    assert check["status"] == "ok"


def test_doctor_names_the_queues_whose_jobs_wait_while_no_worker_is_live(recorded: Darkroom, arrange: Arrange) -> None:
    idle = workers_check(recorded)
    arrange(make_generation)

    ran = recorded("doctor", "--json")

    assert (idle["status"], idle["message"]) == ("warn", "none is running")
    (check,) = [one for one in ran.json["checks"] if one["name"] == "workers"]
    assert (ran.code, check["status"]) == (1, "fail")
    assert check["message"] == "none is running; none takes from queue gpu (1 waiting)"
    assert "start `darkroom worker --queues gpu`, or `darkroom up` for everything" in check["advice"]


def test_doctor_and_queue_stats_count_a_scheduled_job_alike(recorded: Darkroom, arrange: Arrange) -> None:
    arrange(make_worker)
    arrange(make_generation)
    later = "scheduled_at = now() + interval '1 h', run_at = now() + interval '1 h'"
    arrange(lambda db: db.fetch(f"UPDATE darkroom.job_queue SET status = 'retrying', ready = false, {later}"))

    check = workers_check(recorded)

    assert (check["status"], "queue gpu (0 waiting)" in check["message"]) == ("warn", True)
    (row,) = [one for one in recorded("queue", "stats", "--json").json["queues"] if one["queue"] == "gpu"]
    assert (row["waiting"], row["scheduled"]) == (0, 1)


def workers_check(darkroom: Darkroom) -> dict[str, str]:
    """Return what doctor finds of the workers."""
    (check,) = [one for one in darkroom("doctor", "--json").json["checks"] if one["name"] == "workers"]
    return check


def test_worker_of_a_queue_that_no_job_enters_is_refused(recorded: Darkroom) -> None:
    ran = recorded("worker", "--queues", "gpus")

    assert ran.code == 2
    assert "there is no queue gpus; jobs enter default, gpu" in ran.err


def test_stage_queues_that_are_not_recorded_as_set_are_told_by_doctor(
    recorded: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_STAGE_QUEUES", "ANALYZING=cpu")

    (check,) = [one for one in recorded("doctor", "--json").json["checks"] if one["name"] == "fair order"]

    assert check["status"] == "warn"
    assert check["message"] == "DARKROOM_STAGE_QUEUES=ANALYZING=cpu, but GENERATING=gpu is recorded"


def test_upgrade_without_the_setting_keeps_the_queues_and_an_empty_object_takes_them_back(
    recorded: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = arrange(make_generation)
    monkeypatch.delenv("DARKROOM_STAGE_QUEUES")
    assert recorded("db", "upgrade", "--json").json["moved"] == 0
    monkeypatch.setenv("DARKROOM_STAGE_QUEUES", "{}")

    assert recorded("db", "upgrade", "--json").json["moved"] == 1

    assert [one.job_id for one in arrange(claim_jobs)] == [job_id]


def test_stage_that_nothing_has_is_refused_by_every_command(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_STAGE_QUEUES", "GENERATIN=gpu")

    ran = darkroom("queue", "stats")

    assert ran.code == 2
    assert "DARKROOM_STAGE_QUEUES: 'GENERATIN' is unknown" in ran.err


def test_queue_of_a_stage_is_paused_before_a_job_is_in_it(recorded: Darkroom) -> None:
    assert recorded("queue", "pause", "--queue", "gpu").code == 0
    assert recorded("queue", "pause", "--queue", "gpus").code != 0
