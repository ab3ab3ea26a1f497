"""`darkroom album enhance` and `darkroom batches`: what they submit, show, follow, cancel and try again."""

import pytest

from tests.integration.queue.test_batches import end, make_album
from tests.support.builders import balance_of, make_image, make_pipeline, make_user
from tests.support.calling import Arrange, Darkroom


@pytest.fixture
def user(arrange: Arrange) -> str:
    arrange(lambda db: db.fetch("TRUNCATE darkroom.batches, darkroom.album_batches"))
    return arrange(make_user)


@pytest.fixture
def album(arrange: Arrange, user: str) -> str:
    async def make(db):
        return await make_album(db, user, [await make_image(db, user) for _ in range(3)])

    return arrange(make)


def submitted(darkroom: Darkroom, album: str, *options: str):
    ran = darkroom("album", "enhance", album, "--no-wait", "--json", *options)
    assert ran.code == 0
    return ran.json


def test_album_is_submitted_by_the_beginning_of_its_id_and_the_second_call_adds_nothing(
    darkroom: Darkroom, arrange: Arrange, user: str, album: str
) -> None:
    first, second = submitted(darkroom, album[:8], "--tier", "1k"), submitted(darkroom, album, "--tier", "1k")

    assert (first["total"], first["waiting"], first["tier"], first["album_id"]) == (3, 3, "TIER_1K", album)
    assert (second["total"], second["finished_at"] is not None) == (0, True)
    assert arrange(lambda db: balance_of(db, user)) == 94
    third = darkroom("album", "enhance", album, "--tier", "1k", "--no-wait").err
    assert "0 pictures submitted for 0 tokens" in third
    assert "the album has no picture that isn't done or under way at tier 1k" in third
    assert "3 pictures submitted for 6 tokens" not in darkroom("album", "enhance", album, "--no-wait").err


def test_options_reach_the_jobs(darkroom: Darkroom, arrange: Arrange, user: str, album: str) -> None:
    pipeline = arrange(lambda db: make_pipeline(db, user))
    first = submitted(darkroom, album, "--tier", "free", "--pipeline", pipeline[:10], "--at", "+2h")
    rows = arrange(lambda db: db.fetch('SELECT DISTINCT "pipelineId" AS id FROM public.image_enhancement_jobs'))
    (queue,) = darkroom("queue", "stats", "--json").json["queues"]
    arrange(lambda db: end(db, first["id"], *["COMPLETED"] * 3))
    again = submitted(darkroom, album, "--tier", "free", "--redo")

    assert [row["id"] for row in rows] == [pipeline]
    assert (queue["scheduled"], queue["waiting"]) == (3, 0)
    assert again["total"] == 3


@pytest.mark.parametrize("words", [("album", "enhance", "none"), ("batches", "show", "none"), ("batches", "watch", "0"),
                                   ("batches", "cancel", "none"), ("batches", "retry", "none")])  # fmt: skip
def test_what_there_is_not_is_not_found(darkroom: Darkroom, user: str, words: tuple[str, ...]) -> None:
    ran = darkroom(*words)

    assert (ran.code, ran.out) == (1, "")
    assert "not found" in ran.err


def test_too_few_tokens_name_what_all_need_and_submit_nothing(darkroom: Darkroom, arrange: Arrange) -> None:
    async def poor_album(db):
        user = await make_user(db, balance=5)
        return await make_album(db, user, [await make_image(db, user) for _ in range(3)])

    ran = darkroom("album", "enhance", arrange(poor_album), "--tier", "1k", "--no-wait")

    assert ran.code == 1
    assert ran.err.count("needed 6, available 5") == 1
    assert len(ran.err.splitlines()) == 1
    assert darkroom("jobs", "list", "--json").json == []


@pytest.mark.parametrize("at", ["3000-01-01T00:00:00Z", "9999-12-31T23:00:00Z", "+999999d"])
def test_time_at_which_no_job_can_begin_is_a_usage_error(darkroom: Darkroom, album: str, at: str) -> None:
    for words in (("album", "enhance", album), ("generate", "a cat"), ("enhance", "none.jpg")):
        ran = darkroom(*words, "--no-wait", "--at", at)

        assert (ran.code, ran.out) == (2, "")
        assert f"--at {at!r} is no time at which a job can begin" in ran.err


def test_batches_are_listed_and_shown_with_their_counters(
    darkroom: Darkroom, arrange: Arrange, user: str, album: str
) -> None:
    batch = submitted(darkroom, album, "--tier", "1k")
    arrange(lambda db: end(db, batch["id"], "COMPLETED", "FAILED"))

    (listed,) = darkroom("batches", "list", "--user", user, "--json").json
    shown = darkroom("batches", "show", batch["id"][:6], "--json").json

    assert (listed["id"], listed["completed"], listed["failed"], listed["waiting"]) == (batch["id"], 1, 1, 1)
    assert {name: shown[name] for name in listed} == listed
    assert len(shown["job_ids"]) == 3
    assert "2 of 3" in darkroom("batches", "list").out
    assert f"Summer {album}" in darkroom("batches", "show", batch["id"]).out


@pytest.mark.parametrize(("ends", "code"), [(["COMPLETED"] * 3, 0), (["COMPLETED", "COMPLETED", "FAILED"], 1)])
def test_watch_of_a_batch_ends_with_its_jobs_and_says_how(
    darkroom: Darkroom, arrange: Arrange, user: str, album: str, ends: list[str], code: int
) -> None:
    batch = submitted(darkroom, album)
    arrange(lambda db: end(db, batch["id"], *ends))

    ran = darkroom("batches", "watch", batch["id"])

    assert ran.code == code
    assert ran.out.endswith(f"3 jobs: {3 - code} completed" + (", 1 failed\n" if code else "\n"))


def test_cancel_and_retry_are_recorded_and_say_how_many(
    darkroom: Darkroom, arrange: Arrange, user: str, album: str
) -> None:
    batch = submitted(darkroom, album, "--tier", "1k")
    arrange(lambda db: end(db, batch["id"], "COMPLETED"))

    cancelled = [darkroom("batches", "cancel", batch["id"], "--reason", "asked", "--json") for _ in range(2)]
    retried = darkroom("batches", "retry", batch["id"], "--json")

    assert [(ran.code, ran.json["cancelled"]) for ran in cancelled] == [(0, 2), (0, 2)]
    assert (retried.code, retried.json["total"], retried.json["waiting"]) == (0, 2, 2)
    actions = arrange(lambda db: db.fetch("SELECT action, target, reason FROM darkroom.operator_actions ORDER BY id"))
    assert [tuple(row) for row in actions] == [
        ("batch_cancel", batch["id"], "asked"),
        ("batch_retry", batch["id"], None),
    ]
    assert arrange(lambda db: balance_of(db, user)) == 94
    assert darkroom("batches", "show", batch["id"], "--json").json["retried_as"] == retried.json["id"]
