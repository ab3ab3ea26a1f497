"""Models that operators name: unknown ones are refused at once, known ones are asked unchanged."""

import json
from pathlib import Path

import pytest

from pipelines.settings import Settings
from tests.support.builders import make_image, make_job, make_pipeline, make_user, queue_row
from tests.support.calling import Arrange, Darkroom
from tests.support.imaging_pictures import encoded, photo

UNKNOWN = "gemini-2.5-flash-image"
KNOWN = "gemini-3-pro-image"


@pytest.fixture
def gemini(darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> Darkroom:
    """Run `darkroom` where Gemini is configured and nothing is recorded of models."""
    monkeypatch.setenv("PROVIDER", "gemini")
    monkeypatch.setenv("GEMINI_API_KEY", "a-key-for-tests")
    arrange(lambda db: db.fetch("DELETE FROM darkroom.settings WHERE key = 'models'"))
    yield darkroom
    arrange(lambda db: db.fetch("DELETE FROM darkroom.settings WHERE key = 'models'"))


def failed_job(arrange: Arrange, model: str | None = None) -> str:
    async def make(db):
        user = await make_user(db)
        pipeline = None if model is None else await make_pipeline(db, user, generationConfig={"model": model})
        image = await make_image(db, user)
        return await make_job(db, user_id=user, image_id=image, status="FAILED", pipelineId=pipeline)

    return arrange(make)


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_retry_with_an_unknown_model_is_refused_by_name(gemini: Darkroom, arrange: Arrange, options: tuple) -> None:
    ran = gemini("jobs", "retry", failed_job(arrange), "--model", UNKNOWN, *options)

    assert ran.code == 1
    assert f"model {UNKNOWN} has no price for a picture" in ran.err
    assert arrange(lambda db: db.fetchval("SELECT count(*) FROM darkroom.job_queue")) == 0


def test_retry_with_a_known_model_needs_none_of_the_pipelines(gemini: Darkroom, arrange: Arrange) -> None:
    assert gemini("db", "upgrade").code == 0
    old = failed_job(arrange, UNKNOWN)
    plain = gemini("jobs", "retry", old)
    (new,) = gemini("jobs", "retry", old, "--model", KNOWN, "--json").json
    again = gemini("jobs", "retry", old)

    assert arrange(lambda db: queue_row(db, new["id"]))["payload"]["model"] == KNOWN
    for refused in (plain, again):
        assert refused.code == 1
        assert f"generationConfig.model: model {UNKNOWN} has no price" in refused.err


def test_retry_goes_by_what_is_recorded_too(
    gemini: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert gemini("db", "upgrade").code == 0
    monkeypatch.setenv("PROVIDER", "local")  # an operator's own machine
    ran = gemini("jobs", "retry", failed_job(arrange), "--model", "gpt-image-1")

    assert ran.code == 1
    assert "gpt-image-1 is a model of openai, which isn't configured (PROVIDER=gemini)" in ran.err


@pytest.mark.parametrize(("price", "code"), [("", 1), ("0.3", 0)])
def test_pipeline_of_an_unknown_model_is_refused_or_has_the_fallback_price(
    gemini: Darkroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, price: str, code: int
) -> None:
    monkeypatch.setenv("DARKROOM_UNKNOWN_MODEL_USD", price)
    path = tmp_path / "pipeline.json"
    path.write_text(json.dumps({"analysisConfig": {"model": "gemini-1.0-pro-vision"}}))
    ran = gemini("pipelines", "create", "mine", "--config", str(path))

    assert ran.code == code
    assert ("analysisConfig.model: model gemini-1.0-pro-vision has no price" in ran.err) == bool(code)


def test_enhance_with_a_pipeline_of_an_unknown_model_is_refused_and_leaves_no_picture(
    gemini: Darkroom, arrange: Arrange, tmp_path: Path
) -> None:
    user = arrange(make_user)
    pipeline = arrange(lambda db: make_pipeline(db, user, generationConfig={"model": UNKNOWN}))
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo(64, 48), "JPEG"))
    ran = gemini("enhance", str(path), "--user", user, "--pipeline", pipeline, "--no-wait")

    assert ran.code == 1
    assert f"pipeline {pipeline} is invalid: generationConfig.model: model {UNKNOWN} has no price" in ran.err
    assert arrange(lambda db: db.fetchval("SELECT count(*) FROM public.enhanced_images")) == 0


def test_fork_of_a_pipeline_whose_model_is_unknown_is_refused(gemini: Darkroom, arrange: Arrange) -> None:
    pipeline = arrange(lambda db: make_pipeline(db, None, visibility="PUBLIC", generationConfig={"model": UNKNOWN}))
    ran = gemini("pipelines", "fork", pipeline)

    assert (ran.code, UNKNOWN in ran.err) == (1, True)


def test_doctor_says_when_models_differ_and_which_pipelines_are_refused(
    gemini: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(name: str) -> tuple[str, str]:
        (check,) = [check for check in gemini("doctor", "--json").json["checks"] if check["name"] == name]
        return check["status"], check["message"]

    unrecorded = found("models")
    assert gemini("db", "upgrade").code == 0
    recorded = found("models")
    pipeline = arrange(lambda db: make_pipeline(db, None, generationConfig={"model": UNKNOWN}))
    refused = found("models of pipelines")
    monkeypatch.setenv("DARKROOM_MODEL_PRICES", f"{UNKNOWN}/1K=0.04")

    assert unrecorded == ("warn", "which models may be asked: none are recorded")
    assert recorded[0] == "ok"
    assert refused[0] == "warn"
    assert f"one is pipeline {pipeline}, generationConfig.model: model {UNKNOWN} has no price" in refused[1]
    assert found("models") == ("warn", "which models may be asked: those recorded are not the environment's")


def test_models_in_the_documents_examples_have_a_price() -> None:
    documents = [Path("README.md"), *Path("docs").rglob("*.md")]
    named = [
        line.split("--model ")[1].split()[0]
        for path in documents
        for line in path.read_text().splitlines()
        if line.startswith("darkroom ") and "--model " in line
    ]

    assert named
    assert {f"{model}/1K" for model in named} <= Settings().model_prices.keys()
