"""Ids given by their first characters, and lists that print their total number."""

import pytest

from models.database import Database
from tests.support.builders import make_job, make_user
from tests.support.calling import Arrange, Darkroom


async def jobs_named(database: Database, *ids: str) -> str:
    """Make a job of each id; return their user's."""
    user = await make_user(database)
    for one in ids:
        await make_job(database, job_id=one, user_id=user)
    return user


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_job_is_found_by_the_beginning_of_its_id(darkroom: Darkroom, arrange: Arrange, verb: str) -> None:
    arrange(lambda db: jobs_named(db, "cabc111", "cabd222"))

    ran = darkroom("jobs", verb, "cabd", "--json")

    assert (ran.code, ran.json["id"]) == (0, "cabd222")


def test_beginning_of_several_ids_names_them_and_changes_nothing(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: jobs_named(db, "cab1", "cab2", "cab3", "cab4", "cxy1"))

    ran = darkroom("jobs", "cancel", "cab", "cx", "--json")

    assert ran.code == 1
    assert ran.err == "darkroom: job cab: cab1, cab2, cab3 and others begin so; give more of the id\n"
    assert [(row["id"], row["status"]) for row in ran.json] == [("cxy1", "CANCELLED")]


def test_whole_id_that_begins_another_is_itself(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: jobs_named(db, "cab", "cabc"))

    assert darkroom("jobs", "show", "cab", "--json").json["id"] == "cab"


@pytest.mark.parametrize("beginning", ["c%", "c_b", "C"])
def test_beginning_is_taken_by_the_letter(darkroom: Darkroom, arrange: Arrange, beginning: str) -> None:
    arrange(lambda db: jobs_named(db, "cab"))

    ran = darkroom("jobs", "show", beginning)

    assert (ran.code, f"job {beginning} not found" in ran.err) == (1, True)


def test_retry_and_watch_take_beginnings(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: jobs_named(db, "cab1", "cxy1"))
    assert darkroom("jobs", "cancel", "cab").code == 0

    watched, (new,) = darkroom("jobs", "watch", "ca"), darkroom("jobs", "retry", "cab", "--json").json

    assert watched.out.startswith("cab1  ")
    assert new["id"] != "cab1"


def test_user_and_pipeline_are_found_by_beginnings(darkroom: Darkroom, arrange: Arrange) -> None:
    user = arrange(make_user)
    pipeline = darkroom("pipelines", "create", "warm", "--user", user[:-1], "--json").json

    assert pipeline["userId"] == user
    assert darkroom("pipelines", "show", pipeline["id"][:-1], "--json").json["id"] == pipeline["id"]
    assert darkroom("pipelines", "fork", pipeline["id"][:-1], "--user", user, "--json").code == 0
    assert darkroom("tokens", "balance", user[:-1], "--json").json["userId"] == user


def test_list_that_is_cut_says_how_many_there_are(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: jobs_named(db, *(f"cab{number}" for number in range(5))))

    cut, whole = darkroom("jobs", "list", "--limit", "2"), darkroom("jobs", "list", "--limit", "5")

    assert cut.err == "2 of 5 jobs; --limit 5 lists them all\n"
    assert (whole.err, darkroom("jobs", "list", "--limit", "2", "--json").err) == ("", "")
    assert darkroom("jobs", "list", "--limit", "2", "--status", "failed").err == ""


def test_every_list_that_is_cut_says_how_many_there_are(darkroom: Darkroom, arrange: Arrange) -> None:
    users = [arrange(make_user) for _ in range(2)]
    for one in ("warm", "cold"):
        assert darkroom("pipelines", "create", one).code == 0
    for _ in range(2):
        assert darkroom("tokens", "grant", users[0], "5").code == 0

    assert "1 of 2 users" in darkroom("tokens", "balance", "--limit", "1").err
    assert "1 of 2 pipelines" in darkroom("pipelines", "list", "--limit", "1").err
    assert "1 of 2 entries" in darkroom("tokens", "history", users[0], "--limit", "1").err
