"""The stages with the real local engine, real files, and real pixel children."""

import asyncio
import hashlib
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bench import quality_damage as damage
from config.tiers import Tier
from pipelines import keys
from pipelines.analysis import Analysis
from pipelines.errors import BadImageError, BrokenAnswerError, MissingObjectError, ProviderNotConfiguredError
from pipelines.imaging.budget import ByteBudget
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Crop, Generated, Job, PromptText
from pipelines.job_types import JOB_TYPES, job_type_of
from pipelines.options import AnalysisOptions, resolve
from pipelines.prompts import Purpose
from pipelines.providers.local.provider import LocalProvider
from pipelines.stage_context import StageContext
from pipelines.stages.analyze import analyze
from pipelines.stages.generate import generate
from pipelines.storage.file import FileStorage
from tests.support.patience import HANGS_AFTER_S
from tests.support.scripted_provider import ScriptedProvider
from tests.support.ungated import Ungated

LIMITS = DecodeLimits()


@pytest.fixture
def storage(tmp_path):
    return FileStorage(tmp_path, "https://pictures.example")


def scene(width=320, height=200, seed=0):
    """Return a sharp, bright, colourful picture that nothing is wrong with."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(40, 220, (height // 20, width // 20, 3))
    picture = small.repeat(20, 0).repeat(20, 1)
    picture[: height // 4] = np.linspace(120, 230, width)[None, :, None]
    return picture.round().astype(np.uint8)


def photograph():
    return damage.load(damage.bundled_folder() / "coffee.png", 400)


def encoded(picture, **options):
    data = io.BytesIO()
    Image.fromarray(picture).save(data, options.pop("format", "PNG"), **options)
    return data.getvalue()


def job(**parts):
    values = {
        "id": "job1",
        "job_type": "enhance",
        "user_id": "user1",
        "tier": Tier.TIER_1K,
        "input_key": "users/user1/originals/image1.png",
        "image_id": "image1",
        "source_key": None,
        "options": resolve(None),
    }
    made = values | parts
    return Job(purpose=job_type_of(made["job_type"]).purpose, **made)


async def context_of(pixels, storage, picture_bytes, *, provider=None, **parts):
    made = job(**parts)
    if picture_bytes is not None:
        await store(storage, made.input_key, picture_bytes)
    provider = provider or LocalProvider(pixels, LIMITS)
    return StageContext(made, [], provider, storage, pixels, LIMITS)


async def store(storage, key, data):
    await storage.put(key, data, "image/png", hashlib.sha256(data).hexdigest())


async def run_all(context):
    """Run every stage, handing outputs on as the runner does."""
    for stage in job_type_of(context.job.job_type).stages:
        output = await stage.run(context)
        context.add(output)
    kinds = {"analysis": Analysis, "crop": Crop, "prompt": PromptText}
    return SimpleNamespace(**{name: context.output(kind) for name, kind in kinds.items()}), output


def letterboxed(picture, bar=40):
    return np.pad(picture, ((bar, bar), (0, 0), (0, 0)))


async def test_enhance_stores_a_finished_picture_of_the_tiers_size(pixels, storage):
    context = await context_of(pixels, storage, encoded(scene()))

    outputs, generated = await run_all(context)

    data = await storage.get(generated.key)
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "JPEG"
    assert picture.size == (1024, 640) == (generated.width_px, generated.height_px)
    assert not picture.getexif()
    assert hashlib.sha256(data).hexdigest() == generated.sha256
    assert len(data) == generated.size_bytes
    assert generated.key == keys.enhanced_key("user1", "image1", "job1", generated.sha256)
    assert generated.url == f"https://pictures.example/{generated.key}"
    assert (generated.model, outputs.analysis.source) == ("local", "local")


async def test_enhance_crops_black_bars_to_the_pixel(pixels, storage):
    context = await context_of(pixels, storage, encoded(letterboxed(scene()), format="JPEG", quality=90))

    outputs, generated = await run_all(context)

    assert outputs.crop == Crop(was_cropped=True, box=PixelBox(0, 40, 320, 200))
    assert outputs.crop.to_json()["box"] == {"x": 0, "y": 40, "w": 320, "h": 200}
    assert (generated.width_px, generated.height_px) == (1024, 640)


@pytest.mark.parametrize(
    "config", [{"enabled": False}, {"minCropRatio": 0.9}, {"allowBlackBarRemoval": False}], ids=lambda c: next(iter(c))
)
async def test_crop_is_not_done_when_the_pipeline_forbids_it(pixels, storage, config):
    context = await context_of(
        pixels, storage, encoded(letterboxed(scene())), options=resolve({"autoCropConfig": config})
    )

    outputs, generated = await run_all(context)

    assert outputs.crop == Crop(was_cropped=False)
    assert (generated.width_px, generated.height_px) == (1024, 896)


async def test_crop_follows_the_orientation_of_the_original(pixels, storage):
    stored = np.rot90(letterboxed(scene()))
    exif = Image.Exif()
    exif[0x0112] = 6
    context = await context_of(pixels, storage, encoded(stored, format="JPEG", quality=95, exif=exif))

    outputs, generated = await run_all(context)

    assert outputs.crop.box == PixelBox(0, 40, 320, 200)
    assert (generated.width_px, generated.height_px) == (1024, 640)


async def test_analysis_switched_off_gives_none_and_the_engine_still_measures(pixels, storage):
    dark = damage.dark(photograph())
    context = await context_of(pixels, storage, encoded(dark), options=resolve({"analysisConfig": {"enabled": False}}))

    outputs, generated = await run_all(context)

    assert outputs.analysis is None
    assert outputs.crop == Crop(was_cropped=False)
    assert any("brightened" in treatment for treatment in generated.treatments)


async def test_skip_corrections_changes_the_size_only(pixels, storage):
    dark = damage.dark(photograph())
    context = await context_of(
        pixels, storage, encoded(dark), options=resolve({"promptConfig": {"skipCorrections": True}})
    )

    _, generated = await run_all(context)

    assert [treatment.partition(" (")[0] for treatment in generated.treatments] == ["enlarged 2.6x by Lanczos"]


async def test_defect_override_forces_and_forbids_a_treatment(pixels, storage):
    overrides = {"defectOverrides": {"isDark": True}}
    context = await context_of(pixels, storage, encoded(scene()), options=resolve({"promptConfig": overrides}))
    _, forced = await run_all(context)
    dark = damage.dark(photograph())
    overrides = {"defectOverrides": {"isDark": False}}
    context = await context_of(pixels, storage, encoded(dark), options=resolve({"promptConfig": overrides}))
    _, forbidden = await run_all(context)

    assert any("brightened" in treatment for treatment in forced.treatments)
    assert not any("brightened" in treatment for treatment in forbidden.treatments)


async def test_local_engine_works_on_the_first_of_several_pictures_and_gives_the_aspect_asked_for(pixels, storage):
    context = await context_of(
        *(pixels, storage, encoded(scene())),
        job_type="studio.enhance",
        image_id=None,
        input_key="uploads/first.png",
        more_keys=("uploads/second.png",),
        aspect=0.5,
        count=2,
    )
    await store(storage, "uploads/second.png", encoded(np.zeros((50, 50, 3), np.uint8)))

    _, last = await run_all(context)

    first, second = context.pictures
    assert second == last
    assert first.key == keys.result_key("studio", "user1", "job1", 1, first.sha256)
    assert last.key == keys.result_key("studio", "user1", "job1", 2, last.sha256)
    assert first.sha256 == last.sha256  # it makes the same of the same
    assert first.input_hash != last.input_hash
    picture = Image.open(io.BytesIO(await storage.get(last.key)))
    assert picture.size == (512, 1024) == (last.width_px, last.height_px)
    assert np.asarray(picture).mean() > 60  # the second one is black


async def test_blend_takes_light_from_the_second_picture(pixels, storage):
    context = await context_of(
        pixels, storage, encoded(scene()), job_type="blend", source_key="users/user1/originals/image2.png"
    )
    blue = np.full((50, 50, 3), (30, 60, 160), np.uint8)
    await store(storage, context.job.source_key, encoded(blue))

    _, blended = await run_all(context)
    result = np.asarray(Image.open(io.BytesIO(await storage.get(blended.key)))).astype(float)

    assert result[..., 2].mean() - result[..., 0].mean() > scene()[..., 2].mean() - scene()[..., 0].mean() + 5


async def test_blend_without_its_source_names_the_key(pixels, storage):
    context = await context_of(
        pixels, storage, encoded(scene()), job_type="blend", source_key="users/user1/originals/gone.png"
    )

    with pytest.raises(MissingObjectError, match=r"users/user1/originals/gone\.png"):
        await run_all(context)


async def test_missing_original_names_the_key(pixels, storage):
    with pytest.raises(MissingObjectError, match=r"users/user1/originals/image1\.png"):
        await run_all(await context_of(pixels, storage, None))


async def test_bytes_that_are_no_picture_are_refused(pixels, storage):
    with pytest.raises(BadImageError):
        await run_all(await context_of(pixels, storage, b"no picture at all"))


@pytest.mark.parametrize("job_type", ["generate", "modify"])
async def test_words_are_refused_honestly(pixels, storage, job_type):
    context = await context_of(pixels, storage, encoded(scene()), job_type=job_type, image_id=None, prompt="a red door")

    with pytest.raises(ProviderNotConfiguredError, match="words"):
        await run_all(context)


def remote(pixels, answer):
    """Return a provider that analyzes locally, and answers with given bytes as a remote model would."""
    local = LocalProvider(pixels, LIMITS)
    measured = ScriptedProvider(
        answer,
        analyses=[lambda call: local.analyze(call.images[0], AnalysisOptions())],
        model="remote-1",
        is_paid=False,
    )
    return Ungated(measured)


@pytest.mark.parametrize(
    ("job_type", "prompt_config", "side_px"),
    [
        ("enhance", {}, 2048),
        ("enhance", {"skipCorrections": True}, 2048),
        ("enhance", {"defectOverrides": {"isDark": False}}, 2048),
        ("enhance", {"defectOverrides": {"isDark": True}}, None),
        ("blend", {}, None),
    ],
)
async def test_analysis_may_make_the_result_only_if_a_sound_picture_is_not_changed(
    pixels, storage, job_type, prompt_config, side_px
):
    provider = ScriptedProvider(is_paid=False)
    options = resolve(None) if not prompt_config else resolve({"promptConfig": prompt_config})
    context = await context_of(
        pixels,
        storage,
        encoded(scene()),
        provider=Ungated(provider),
        job_type=job_type,
        tier=Tier.TIER_2K,
        options=options,
    )

    await analyze(context)

    assert [call.images[0].result_side_px for call in provider.calls] == [side_px]


async def test_result_is_the_same_whether_the_analysis_made_it_or_not(pixels, storage):
    picture = encoded(np.tile(photograph(), (3, 3, 1)), format="JPEG", quality=92)
    along = await context_of(pixels, storage, picture)
    _, generated = await run_all(along)
    later = replace(along, provider=LocalProvider(pixels, LIMITS))

    assert await generate(later) == generated


async def test_remote_answer_is_brought_to_size_and_stripped(pixels, storage):
    exif = Image.Exif()
    exif[0x010E] = "CANARY"
    answer = encoded(scene(400, 400), format="JPEG", exif=exif)
    context = await context_of(pixels, storage, encoded(scene()), provider=remote(pixels, answer))

    _, generated = await run_all(context)

    data = await storage.get(generated.key)
    assert Image.open(io.BytesIO(data)).size == (1024, 640)
    assert b"CANARY" not in data
    assert (generated.model, generated.temperature) == ("remote-1", 0.4)


async def test_remote_answer_that_is_no_picture_is_broken_and_paid(pixels, storage):
    context = await context_of(pixels, storage, encoded(scene()), provider=remote(pixels, b"<html>"))

    with pytest.raises(BrokenAnswerError) as caught:
        await run_all(context)

    assert caught.value.is_paid


async def test_outputs_rebuilt_from_their_columns_are_the_same(pixels, storage):
    context = await context_of(pixels, storage, encoded(letterboxed(scene())))
    outputs, generated = await run_all(context)

    crop = Crop.from_json(outputs.crop.to_json())
    analysis = Analysis.from_json(outputs.analysis.to_json())

    assert crop == outputs.crop
    assert (analysis.result(), analysis.source) == (outputs.analysis.result(), outputs.analysis.source)
    assert PromptText.from_json(outputs.prompt.to_json()) == outputs.prompt
    assert Generated.from_json(generated.to_json()) == generated


def test_every_purpose_is_that_of_a_job_type():
    assert {job_type.purpose for job_type in JOB_TYPES.values()} == set(Purpose)


class WatchedStorage:
    """A storage that notes how much room is left whenever it gives a picture."""

    def __init__(self, storage, budget):
        self._storage, self._budget = storage, budget
        self.free = []

    def __getattr__(self, name):
        return getattr(self._storage, name)

    async def get(self, key, **limits):
        self.free.append(self._budget.free_bytes)
        return await self._storage.get(key, **limits)


async def test_jobs_with_two_pictures_each_wait_for_room_for_both(pixels, storage):
    picture = encoded(scene())
    context = await context_of(
        pixels, storage, picture, job_type="blend", source_key="users/user1/originals/image1.png"
    )
    most = context.limits.max_bytes
    budget = ByteBudget(3 * most)
    watched = WatchedStorage(storage, budget)
    context = replace(context, inputs=budget, storage=watched)

    async with asyncio.timeout(HANGS_AFTER_S):
        await asyncio.gather(*(generate(context) for _ in range(16)))

    assert len(watched.free) == 2 * 16
    assert max(watched.free) <= most  # whoever reads has asked for both at their most
    assert budget.free_bytes == 3 * most


async def test_job_whose_pictures_could_be_more_than_all_the_room_runs_alone(pixels, storage):
    context = await context_of(pixels, storage, encoded(scene()))
    context = replace(context, inputs=ByteBudget(1_000))

    generated = await asyncio.gather(*(generate(context) for _ in range(3)))

    assert len(generated) == 3
    assert context.inputs.free_bytes == 1_000
