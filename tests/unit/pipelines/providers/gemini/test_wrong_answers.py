"""A picture is wrong if it misses what the request asked the model for; limits of uploads don't apply to it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    MISSES,
    AnswerTooLargeError,
    BrokenAnswerError,
    MissedRequestError,
    OneColourError,
    ProviderNotConfiguredError,
    WrongShapeError,
    WrongSizeError,
)
from pipelines.imaging.header import DecodeLimits
from pipelines.job import Prompt
from pipelines.prompts import Purpose
from pipelines.providers.asked import Asked
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.fake_gemini import answers, odd
from tests.support.imaging_pictures import encoded, photo
from tests.support.ungated import Ungated
from tests.unit.pipelines.providers.gemini.test_client import KEY, PICTURE, PROMPT

WORDS = Prompt("A cat.", ALL_CORRECTIONS, Purpose.GENERATE)
UPLOADS = DecodeLimits(max_bytes=200_000, max_pixels=100_000)


@pytest.fixture
async def open_gemini(server, pixels):
    opened = []

    def open_gemini(**settings):
        settings = Settings(gemini_api_key=KEY, gemini_base_url=server.url, **settings)
        opened.append(GeminiProvider(settings, pixels, UPLOADS))
        return Ungated(opened[-1])

    yield open_gemini
    for provider in opened:
        await provider.aclose()


def drawing(size):
    return odd.with_picture(photo(*size), "JPEG")


WRONG = [
    (4096, 1.5, (1264, 848), WrongSizeError),
    (4096, 4 / 3, (64, 48), WrongSizeError),
    (2048, 1.0, (1800, 1800), WrongSizeError),
    (1024, 1.5, (1024, 1024), WrongShapeError),
    (1024, 1.0, (1060, 1024), WrongShapeError),
    (2048, 0.5625, (2048, 1152), WrongShapeError),
]


async def test_picture_of_another_size_or_shape_is_wrong(open_gemini, server):
    gemini = open_gemini()
    for long_side_px, aspect, came, error in WRONG:
        server.answer = lambda _, came=came: drawing(came)
        with pytest.raises(error, match=f"{came[0]} x {came[1]}") as caught:
            await gemini.generate(WORDS, [], long_side_px, aspect)

        assert (caught.value.is_paid, caught.value.again) == (True, None)
        assert caught.value.usage.images == 1


RIGHT = [(21 / 9, (1584, 672)), (1.5, (1264, 848)), (0.5625, (768, 1376)), (1.0, (930, 930)), (1.0, (2048, 2048))]


async def test_what_models_make_of_a_ratio_is_right(open_gemini, server):
    gemini = open_gemini()
    for aspect, came in RIGHT:
        server.answer = lambda _, came=came: drawing(came)
        assert (await gemini.generate(WORDS, [], 1024, aspect)).notes == ()


def plain(colour, *, noise=0):
    def answer(request):
        width, height = odd.asked_size(request)
        pixels = np.full((height, width, 3), colour) + np.random.default_rng(2).integers(
            0, noise + 1, (height, width, 1)
        )
        return odd.with_picture(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), "JPEG")

    return answer


def transparent(request):
    return odd.with_picture(Image.new("RGBA", odd.asked_size(request)))


async def test_one_colour_for_a_photograph_is_an_empty_picture(open_gemini, server):
    gemini = open_gemini()
    for answer in (plain(0), plain(255), plain(128), plain((12, 90, 40)), plain(0, noise=6), transparent):
        server.answer = answer
        with pytest.raises(OneColourError, match=r"an empty picture: all of it is (one colour|transparent)"):
            await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)


def stars(request):
    picture = Image.new("RGB", odd.asked_size(request))
    for place in range(20):
        picture.paste((255, 255, 240), (place * 40, place * 30, place * 40 + 3, place * 30 + 3))
    return odd.with_picture(picture)


def fog(request):
    return odd.with_picture(
        Image.linear_gradient("L").resize(odd.asked_size(request)).point(lambda v: 200 + v // 12).convert("RGB")
    )


async def test_few_stars_and_fog_are_pictures(open_gemini, server):
    gemini = open_gemini()
    for answer in (stars, fog):
        server.answer = answer
        assert (await gemini.generate(PROMPT, [PICTURE], 1024, 1.5)).value.data


async def test_picture_of_one_colour_may_give_one(open_gemini, server):
    card = EncodedImage(encoded(Image.new("RGB", (300, 200), (120, 118, 121)), "JPEG"))
    server.answer = plain(128)

    assert (await open_gemini().generate(PROMPT, [card], 1024, 1.5)).value.data


@pytest.mark.parametrize("came", [0, 20])
async def test_picture_of_fog_gives_no_black_one(open_gemini, server, came):
    pale = EncodedImage(encoded(Image.new("RGB", (300, 200), (226, 228, 230)), "JPEG"))
    server.answer = plain(came)

    with pytest.raises(OneColourError):
        await open_gemini().generate(PROMPT, [pale], 1024, 1.5)


async def test_words_may_ask_for_one_colour(open_gemini, server):
    gemini, red = open_gemini(), (220, 20, 30)
    asking = Prompt("Make it.", ALL_CORRECTIONS, Purpose.GENERATE, words="a plain red square")
    server.answer = plain(red)

    assert (await gemini.generate(asking, [], 1024, 1.0)).value.data
    for words, colour in (("a plain red square", 0), ("a red door", red), ("", 0)):
        server.answer = plain(colour)
        with pytest.raises(OneColourError):
            await gemini.generate(replace(asking, words=words), [], 1024, 1.0)


async def test_answer_over_its_own_limit_is_a_miss_that_names_the_setting(pixels):
    asked = Asked.of("m", 1024, 1.5, PROMPT)
    with pytest.raises(AnswerTooLargeError, match="DARKROOM_MAX_ANSWER_BYTES is 1,000"):
        await asked.require_picture(encoded(photo(1024, 683), "JPEG"), pixels, DecodeLimits(max_bytes=1000))


async def test_half_a_picture_is_broken_before_it_is_delivered(open_gemini, server):
    def half(request):
        data = odd.encoded(photo(*odd.asked_size(request)))
        part = answers.inline_part(photo(8, 8))
        part["inlineData"]["data"] = odd.base64.b64encode(data[: len(data) // 2]).decode()
        return odd.of_value({"candidates": [{"content": {"parts": [part]}}]})

    server.answer = half
    with pytest.raises(BrokenAnswerError, match="no usable picture"):
        await open_gemini().generate(PROMPT, [PICTURE], 1024, 1.5)


SMALL_MODEL = "gemini-3.1-flash-lite-image"


async def test_model_that_cant_make_the_tiers_size_is_enlarged_and_the_job_says_so(open_gemini, server):
    answer = await open_gemini(gemini_image_model=SMALL_MODEL).generate(WORDS, [], 4096, 1.0)

    assert answer.notes == (f"enlarged from 1024 x 1024: {SMALL_MODEL} makes no larger picture",)
    assert "imageSize" not in server.calls[0].request["generationConfig"]["imageConfig"]


async def test_model_that_cant_make_the_tiers_size_is_refused_by_setting_before_a_call(open_gemini, server):
    gemini = open_gemini(gemini_image_model=SMALL_MODEL, over_size="refuse")
    with pytest.raises(ProviderNotConfiguredError, match="at most 1024 pixels, and the tier has 4096"):
        gemini.provider.quote_generation(PROMPT, 4096)
    gemini.provider.quote_generation(PROMPT, 1024)

    assert server.calls == []


def test_every_kind_of_miss_is_counted():
    assert set(MISSES) == set(MissedRequestError.__subclasses__())
