"""Real workers with a fake Gemini that answers oddly: no good picture is lost, and no wrong one is delivered."""

import time

from tests.acceptance.test_gemini import ended, gemini, start, submitted  # noqa: F401 - fixtures
from tests.support.builders import balance_of, make_generation, make_user
from tests.support.fake_gemini import odd
from tests.support.fake_gemini.server import whole
from tests.support.patience import is_within

WAIT_S = 4


def generating(answer):
    """Answer analyses as a whole Gemini does, and generations as a test says."""
    return lambda request: whole(request) if "responseSchema" in request["generationConfig"] else answer(request)


async def calls_of(fleet, job):
    return await fleet.database.fetch(
        "SELECT * FROM darkroom.provider_calls WHERE job_id = $1 AND purpose = 'generate' ORDER BY id", job
    )


async def test_4k_answer_of_50_megabytes_is_delivered_whatever_uploads_may_be(fleet, gemini, start):  # noqa: F811
    gemini.answer = generating(odd.noisy)
    start(max_image_bytes="1000000", max_image_pixels="1000000")
    _, (job,) = await submitted(fleet, 1, tier="TIER_4K")

    (row,) = await ended(fleet, [job])

    assert (row["status"], row["errorMessage"], max(row["width"], row["height"])) == ("COMPLETED", None, 4096)
    assert gemini.count("generate") == 1


async def test_wrong_picture_is_refunded_after_the_second_and_the_row_says_what_came(fleet, gemini, start):  # noqa: F811
    gemini.answer = generating(lambda _: odd.with_picture(odd.Image.linear_gradient("L").resize((1264, 848))))
    start()
    user, (job,) = await submitted(fleet, 1, tier="TIER_4K")

    (row,) = await ended(fleet, [job])

    assert (row["status"], await balance_of(fleet.database, user)) == ("REFUNDED", 1000)
    assert row["errorMessage"] == (
        "gemini-nano-banana-2.1 answered with a picture of the wrong size: 1264 x 848 pixels, asked for a long side of "
        "4096; it came twice, so it isn't bought a third time"
    )
    calls = await calls_of(fleet, job)
    assert [(call["outcome"], call["may_be_paid"]) for call in calls] == [("WrongSizeError", True)] * 2


async def test_paid_calls_without_a_picture_end_with_what_came(fleet, gemini, start):  # noqa: F811
    gemini.answer = lambda _: odd.of_value({"candidates": [{"finishReason": "NO_IMAGE"}]})
    start()
    user = await make_user(fleet.database)
    job = await make_generation(fleet.database, user_id=user, prompt="a cat")

    (row,) = await ended(fleet, [job])

    assert (row["status"], len(gemini.calls)) == ("REFUNDED", 3)
    assert row["errorMessage"].startswith("gemini answered with no picture (finish reason NO_IMAGE) (3 times); ")


async def test_error_in_a_200_costs_nothing_is_waited_for_and_keeps_its_words(fleet, gemini, start):  # noqa: F811
    answers = [odd.told(429, "RESOURCE_EXHAUSTED", f"The upstream is busy, please retry in {WAIT_S}s")]
    gemini.answer = lambda request: answers.pop() if answers else whole(request)
    start()
    job = await make_generation(fleet.database, prompt="a cat")

    (row,) = await ended(fleet, [job])

    assert row["status"] == "COMPLETED"
    first, second = gemini.calls
    assert (waited_s := second.at_s - first.at_s) >= WAIT_S
    assert is_within(waited_s, 2 * WAIT_S + 2)
    assert [call["may_be_paid"] for call in await calls_of(fleet, job)] == [False, True]
    words = await fleet.database.fetchval("SELECT metadata ->> 'evidence' FROM public.error_logs")
    assert words == f"The upstream is busy, please retry in {WAIT_S}s"


async def test_outage_that_says_how_long_isnt_asked_sooner(fleet, gemini, start):  # noqa: F811
    answers = [odd.told(503, "UNAVAILABLE", "busy", http=503, headers={"Retry-After": str(WAIT_S)})]
    gemini.answer = lambda request: answers.pop() if answers else whole(request)
    start()
    job = await make_generation(fleet.database, prompt="a cat")

    (row,) = await ended(fleet, [job])

    first, second = gemini.calls
    assert (row["status"], second.at_s - first.at_s >= WAIT_S) == ("COMPLETED", True)
    assert is_within(second.at_s - first.at_s, 2 * WAIT_S + 2)


async def test_enlarged_picture_is_told_by_its_jobs_history(fleet, gemini, start):  # noqa: F811
    start(gemini_image_model="gemini-3.1-flash-lite-image")
    _, (job,) = await submitted(fleet, 1, tier="TIER_2K")

    (row,) = await ended(fleet, [job])

    treatments = await fleet.database.fetchval(
        "SELECT output -> 'treatments' FROM darkroom.stage_runs WHERE job_id = $1 AND output ? 'treatments'", job
    )
    assert row["status"] == "COMPLETED"
    assert treatments == ["enlarged from 1024 x 768: gemini-3.1-flash-lite-image makes no larger picture"]


async def test_tier_that_no_model_makes_is_refunded_by_setting_before_anything_is_bought(fleet, gemini, start):  # noqa: F811
    start(gemini_image_model="gemini-3.1-flash-lite-image", over_size="refuse")
    user, (job,) = await submitted(fleet, 1, tier="TIER_2K")
    began_s = time.monotonic()

    (row,) = await ended(fleet, [job])

    assert (row["status"], await balance_of(fleet.database, user), gemini.calls) == ("REFUNDED", 1000, [])
    assert "makes pictures of at most 1024 pixels, and the tier has 2048" in row["errorMessage"]
    assert is_within(time.monotonic() - began_s, 30)
