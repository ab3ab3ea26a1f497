"""`darkroom pipelines`: create, show and copy, with every rule checked."""

import json
from pathlib import Path

import pytest

from tests.support.builders import make_pipeline, make_user
from tests.support.calling import Arrange, Darkroom

REFERENCES = {"referenceImages": [{"r2Key": "users/{owner}/originals/a.jpg"}, {"url": "https://example.test/b.jpg"}]}


def test_create_stores_the_json_and_is_recorded(darkroom: Darkroom, arrange: Arrange, tmp_path: Path) -> None:
    user_id = arrange(make_user)
    config = tmp_path / "pipeline.json"
    config.write_text('{"autoCropConfig": {"enabled": false}, "generationConfig": null}')

    ran = darkroom(
        "pipelines", "create", "no crop", "--config", str(config), "--user", user_id, "--tier", "2k", "--json"
    )

    row = ran.json
    assert (ran.code, row["name"], row["userId"]) == (0, "no crop", user_id)
    assert (row["tier"], row["visibility"]) == ("TIER_2K", "PRIVATE")
    assert (row["autoCropConfig"], row["generationConfig"]) == ({"enabled": False}, None)
    assert arrange(lambda db: db.fetchval("SELECT action FROM darkroom.operator_actions")) == "pipeline_create"
    assert darkroom("pipelines", "show", row["id"], "--json").json == row


def test_create_without_owner_is_public_and_by_link_has_a_token(darkroom: Darkroom, arrange: Arrange) -> None:
    ownerless = darkroom("pipelines", "create", "plain", "--json").json
    linked = darkroom("pipelines", "create", "linked", "--visibility", "link", "--json").json

    assert (ownerless["userId"], ownerless["visibility"], ownerless["shareToken"]) == (None, "PUBLIC", None)
    assert len(linked["shareToken"]) >= 20


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [
        (
            '{"generationConfig": {"retryAttempts": 99}}',
            1,
            "generationConfig.retryAttempts: between 1 and 10",
        ),
        ('{"cropConfig": {}}', 1, "pipeline has cropConfig; known are analysisConfig"),
        ('{"promptConfig": {"referenceImages": [{"r2Key": "users/x/a.jpg"}]}}', 1, "is not under the prefix"),
        ("[]", 2, "holds no JSON object"),
        ("{", 2, "holds no JSON:"),
    ],
)
def test_create_refuses_broken_json_with_its_path(
    darkroom: Darkroom, tmp_path: Path, text: str, code: int, reason: str
) -> None:
    config = tmp_path / "pipeline.json"
    config.write_text(text)

    ran = darkroom("pipelines", "create", "broken", "--config", str(config))

    assert (ran.code, ran.out) == (code, "")
    assert reason in ran.err
    assert len(ran.err.splitlines()) == 1
    assert darkroom("pipelines", "list", "--json").json == []


def test_create_from_a_missing_file_is_a_usage_error(darkroom: Darkroom) -> None:
    assert darkroom("pipelines", "create", "x", "--config", "/nosuch.json").code == 2


def test_list_filters_by_owner_and_visibility(darkroom: Darkroom, arrange: Arrange) -> None:
    user_id = arrange(make_user)
    private = arrange(lambda db: make_pipeline(db, user_id))
    public = arrange(lambda db: make_pipeline(db, None, visibility="PUBLIC"))

    def ids(*options: str) -> list[str]:
        return [row["id"] for row in darkroom("pipelines", "list", "--json", *options).json]

    assert set(ids()) == {private, public}
    assert ids("--user", user_id) == [private]
    assert ids("--visibility", "public") == [public]


def test_fork_copies_for_another_owner_without_the_firsts_references(darkroom: Darkroom, arrange: Arrange) -> None:
    owner, other = arrange(make_user), arrange(make_user)
    prompt = json.loads(json.dumps(REFERENCES).replace("{owner}", owner))
    source = arrange(lambda db: make_pipeline(db, owner, visibility="PUBLIC", promptConfig=prompt))

    copy = darkroom("pipelines", "fork", source, "--user", other, "--json").json

    assert (copy["userId"], copy["visibility"]) == (other, "PRIVATE")
    assert copy["name"].endswith("(copy)")
    assert copy["promptConfig"] == {"referenceImages": [{"url": "https://example.test/b.jpg"}]}


def test_fork_of_anothers_private_pipeline_is_refused(darkroom: Darkroom, arrange: Arrange) -> None:
    owner, other = arrange(make_user), arrange(make_user)
    source = arrange(lambda db: make_pipeline(db, owner))

    refused = darkroom("pipelines", "fork", source, "--user", other)
    allowed = darkroom("pipelines", "fork", source, "--user", owner, "--name", "mine")

    assert (refused.code, allowed.code) == (1, 0)
    assert "private and another user's" in refused.err


def test_show_of_an_unknown_pipeline_fails(darkroom: Darkroom) -> None:
    ran = darkroom("pipelines", "show", "nosuch")

    assert (ran.code, ran.err) == (
        1,
        "darkroom: pipeline nosuch not found; `darkroom pipelines list` shows them\n",
    )
