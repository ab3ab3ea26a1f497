"""Which earlier picture may be a job's result: only one that was asked for exactly as the job asks for its own."""

import hashlib
import io
from dataclasses import replace

import pytest
from PIL import Image

from config.pipeline_rules import Defect
from config.tiers import Tier
from pipelines.corrections import ALL_CORRECTIONS, NO_CORRECTIONS, Corrections
from pipelines.imaging.geometry import PixelBox
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Crop, Job, Prompt, PromptText
from pipelines.options import resolve
from pipelines.prompts import Purpose
from pipelines.providers.local.provider import LocalProvider
from pipelines.providers.provider import EncodedImage
from pipelines.stage_context import StageContext
from pipelines.stages.generate import generate
from pipelines.stages.results import hash_of
from pipelines.storage.file import FileStorage

LIMITS = DecodeLimits()
KEY = "users/u/originals/i.png"
JOB = Job("j", "enhance", "u", Tier.TIER_1K, KEY, "i", None, resolve(None), purpose=Purpose.ENHANCE)
PROMPT = Prompt("Enhance.", ALL_CORRECTIONS)
IMAGES = [EncodedImage(b"picture", PixelBox(0, 0, 40, 30))]
SIZE = (1024, 768)


def context_of(job=JOB, *, identity="m", **parts):
    return StageContext(job, [], None, None, None, LIMITS, provider_identity=identity, **parts)


ASKED = hash_of(context_of(), PROMPT, IMAGES, *SIZE)

OTHERS = {
    "crop": (context_of(), PROMPT, [EncodedImage(b"picture", PixelBox(1, 0, 40, 30))], SIZE),
    "no crop": (context_of(), PROMPT, [EncodedImage(b"picture")], SIZE),
    "picture": (context_of(), PROMPT, [EncodedImage(b"other", IMAGES[0].box)], SIZE),
    "one picture more": (context_of(), PROMPT, [*IMAGES, EncodedImage(b"source")], SIZE),
    "size": (context_of(), PROMPT, IMAGES, (1024, 767)),
    "text": (context_of(), replace(PROMPT, text="Enhance it."), IMAGES, SIZE),
    "corrections": (context_of(), replace(PROMPT, corrections=NO_CORRECTIONS), IMAGES, SIZE),
    "forced correction": (
        context_of(),
        replace(PROMPT, corrections=Corrections(ALL_CORRECTIONS.allowed, frozenset({Defect.IS_DARK}))),
        IMAGES,
        SIZE,
    ),
    "tier": (context_of(replace(JOB, tier=Tier.TIER_2K)), PROMPT, IMAGES, SIZE),
    "job type": (context_of(replace(JOB, job_type="blend")), PROMPT, IMAGES, SIZE),
    "words": (context_of(replace(JOB, prompt="brighter")), PROMPT, IMAGES, SIZE),
    "aspect": (context_of(replace(JOB, aspect=1.5)), PROMPT, IMAGES, SIZE),
    "pipeline's model": (
        context_of(replace(JOB, options=resolve({"generationConfig": {"model": "n"}}))),
        PROMPT,
        IMAGES,
        SIZE,
    ),
    "configured models": (context_of(identity="n"), PROMPT, IMAGES, SIZE),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_hash_is_another_one_if_anything_differs_on_which_the_picture_depends(other):
    context, prompt, images, size = other

    assert hash_of(context, prompt, images, *size) != ASKED


def test_hash_is_the_same_for_another_job_that_asks_for_the_same():
    defects = sorted(ALL_CORRECTIONS.allowed, reverse=True)
    prompt = Prompt("Enhance.", Corrections(frozenset(defects)))
    image = EncodedImage(b"picture", PixelBox(0, 0, 40, 30))

    assert hash_of(context_of(replace(JOB, id="k", image_id="l")), prompt, [image], *SIZE) == ASKED


@pytest.mark.parametrize(
    ("box", "size_px"), [(PixelBox(0, 0, 64, 48), (1024, 768)), (PixelBox(0, 0, 48, 48), (1024, 1024))]
)
async def test_job_gets_the_picture_of_its_own_crop(pixels, tmp_path, box, size_px):
    storage, file, results = FileStorage(tmp_path), io.BytesIO(), {}
    Image.effect_noise((64, 48), 60).convert("RGB").save(file, "PNG")
    await storage.put(KEY, file.getvalue(), "image/png", hashlib.sha256(file.getvalue()).hexdigest())

    async def find_same(input_hash):
        return results.get(input_hash)

    async def result_of(job_id, outputs):
        provider = LocalProvider(pixels, LIMITS)
        job = replace(JOB, id=job_id)
        made = await generate(StageContext(job, outputs, provider, storage, pixels, LIMITS, find_same=find_same))
        results.setdefault(made.input_hash, made)
        return made

    first = await result_of("a", [Crop(was_cropped=True, box=PixelBox(0, 0, 64, 48)), PromptText("Enhance.")])
    second = await result_of("b", [Crop(was_cropped=True, box=box), PromptText("Enhance.")])

    assert (second.width_px, second.height_px) == size_px
    assert (second.sha256 == first.sha256) is (size_px == (first.width_px, first.height_px))
    assert len(results) == (1 if second.sha256 == first.sha256 else 2)
