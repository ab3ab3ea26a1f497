"""What people see of users with equal ids in several applications, and what such jobs cost."""

import asyncio
from pathlib import Path

import pytest

from config.postgres_url import parse_postgres_url
from tests.support.calling import Arrange, Darkroom
from tests.support.equal_users import make_equal_users, submit
from workers.services.instance import EmbeddedInstance

NAMES = {"p11", "s11", "1"}


@pytest.fixture(scope="module")
def shared_url(services: EmbeddedInstance, template: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database of three applications, each of which has a user 1."""
    url = parse_postgres_url(services.database_url)
    asyncio.run(make_equal_users(url, "seen_users", template, tmp_path_factory.mktemp("file")))
    return url.with_database("seen_users").text()


@pytest.fixture
def database_url(shared_url: str) -> str:
    """URL of that database."""
    return shared_url


def listed(darkroom: Darkroom, *arguments: str) -> dict[str, list[str]]:
    """Return the words of each line that `jobs list` prints, by the job's name."""
    ran = darkroom("jobs", "list", *arguments)
    assert ran.code == 0, ran.err
    return {line.split()[0]: line.split() for line in ran.out.splitlines()[1:] if line != "there are no such jobs"}


def test_people_see_the_applications_own_ids_and_what_jobs_cost(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("pictures", "studio", "frames"):
        arrange(lambda db, name=name: submit(db, name, 1))
    every = listed(darkroom)
    shown = {name: darkroom("jobs", "show", name, "--json").json for name in NAMES}
    explained = {name: darkroom("jobs", "explain", name) for name in NAMES}
    chosen = {
        user: set(listed(darkroom, "--user", user)) for user in ("1", "studio/1", "frames/1", "pictures/1", "x/1")
    }
    both = listed(darkroom, "--user", "studio/1", "--type", "studio.modify")
    counted = darkroom("users", "show", "1", "--json").json
    cancelled = darkroom("jobs", "cancel", *NAMES)
    again = darkroom("jobs", "retry", "--user", "studio/1", "--status", "cancelled", "--dry-run")

    assert every.keys() == NAMES
    assert {name: "2" in words[1:] for name, words in every.items()} == dict.fromkeys(NAMES, True)
    assert (shown["p11"]["userId"], shown["s11"]["userId"], shown["1"]["customer_id"]) == ("1", "1", 1)
    assert {name: (ran.code, "/1" in ran.out) for name, ran in explained.items()} == dict.fromkeys(NAMES, (0, False))
    assert chosen == {"1": NAMES, "studio/1": {"s11"}, "frames/1": {"1"}, "pictures/1": {"p11"}, "x/1": set()}
    assert both == {}
    assert counted["jobs"] == {"PENDING": 1}
    assert cancelled.code == 0
    assert again.out.splitlines()[-1] == "1 of 1 would be tried again, for 2 tokens"
