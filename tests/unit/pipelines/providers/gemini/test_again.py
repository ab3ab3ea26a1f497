"""When Gemini is asked a second time, and how the request differs; it is never asked a third time."""

import pytest

from pipelines.errors import BrokenAnswerError, PolicyRefusedError, RequestRejectedError
from pipelines.imaging.answers import SENT_SIDE_PX
from pipelines.options import AnalysisOptions
from pipelines.providers.gemini import provider as gemini_provider
from pipelines.providers.gemini.provider import GeminiProvider
from pipelines.providers.gemini.requests import FIRMLY, MAX_ANALYSIS_UNITS, MORE_ANALYSIS_UNITS
from pipelines.providers.provider import EncodedImage
from pipelines.settings import Settings
from tests.support.fake_gemini import answers
from tests.support.imaging_pictures import encoded, photo
from tests.support.ungated import let_through
from tests.unit.pipelines.providers.gemini.test_client import KEY, LIMITS, PICTURE, PROMPT


@pytest.fixture
async def gemini(server, pixels):
    provider = GeminiProvider(Settings(gemini_api_key=KEY, gemini_base_url=server.url), pixels, LIMITS)
    yield provider
    await provider.aclose()


async def failed(send):
    """Send a prepared call; return the error that it must end with."""
    with pytest.raises((BrokenAnswerError, RequestRejectedError, PolicyRefusedError)) as caught:
        await send(let_through)
    return caught.value


async def generation(gemini, picture=PICTURE):
    return await gemini.prepare_generation(PROMPT, [picture], 1024, 1.5)


@pytest.mark.parametrize("fault", ["text only", "no picture", "new reason"])
async def test_answer_without_picture_is_asked_for_once_more_and_firmly(gemini, server, fault):
    server.script(fault, fault)
    error = await failed(await generation(gemini))
    second = await failed(await error.again())

    first, firm = (call.request for call in server.calls)
    assert first["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    assert firm["generationConfig"]["responseModalities"] == ["IMAGE"]
    assert firm["contents"][0]["parts"][-1]["text"].endswith(FIRMLY)
    assert (type(second), second.again, second.is_paid) == (BrokenAnswerError, None, True)


async def test_recitation_gets_another_seed_and_the_second_is_final(gemini, server):
    server.script("recitation", "recitation")
    error = await failed(await generation(gemini))
    final = await failed(await error.again())

    assert "seed" not in server.calls[0].request["generationConfig"]
    assert 0 <= server.calls[1].request["generationConfig"]["seed"] < 2**31
    assert (type(final), final.category, final.again) == (PolicyRefusedError, "IMAGE_RECITATION", None)
    assert final.usage.cost_usd > 0


async def test_too_large_request_is_sent_once_more_with_smaller_pictures(gemini, server):
    large = EncodedImage(encoded(photo(SENT_SIDE_PX, SENT_SIDE_PX), "JPEG"))
    server.script("413", "413")
    error = await failed(await generation(gemini, large))
    final = await failed(await error.again())

    sizes = [answers.pictures_in(call.request)[0].size for call in server.calls]
    assert sizes == [(SENT_SIDE_PX, SENT_SIDE_PX), (SENT_SIDE_PX // 2, SENT_SIDE_PX // 2)]
    assert (isinstance(final, RequestRejectedError), final.again) == (True, None)


async def test_request_that_would_be_too_large_is_shrunk_before_it_is_sent(gemini, server, monkeypatch):
    large = EncodedImage(encoded(photo(SENT_SIDE_PX, SENT_SIDE_PX), "JPEG"))
    await (await generation(gemini, large))(let_through)
    whole = len(str(server.calls[0].request))
    monkeypatch.setattr(gemini_provider, "MAX_REQUEST_BYTES", whole * 2 // 3)
    await (await generation(gemini, large))(let_through)
    monkeypatch.setattr(gemini_provider, "MAX_REQUEST_BYTES", 1000)
    with pytest.raises(RequestRejectedError, match="gemini takes 1,000"):
        await generation(gemini, large)

    assert answers.pictures_in(server.calls[1].request)[0].size == (SENT_SIDE_PX // 2, SENT_SIDE_PX // 2)


async def test_picture_cut_off_by_its_length_is_asked_for_once_more(gemini, server):
    server.script("max tokens")
    error = await failed(await generation(gemini))
    answer = await (await error.again())(let_through)

    assert answer.value.data


async def test_analysis_cut_off_by_its_length_gets_a_larger_limit(gemini, server):
    server.script("max tokens", "max tokens")
    error = await failed(await gemini.prepare_analysis(PICTURE, AnalysisOptions()))
    second = await failed(await error.again())

    limits = [call.request["generationConfig"]["maxOutputTokens"] for call in server.calls]
    assert limits == [MAX_ANALYSIS_UNITS, MORE_ANALYSIS_UNITS]
    assert second.again is None


async def test_continuation_is_continued_with_its_token(gemini, server):
    server.script("continuation")
    error = await failed(await generation(gemini))
    await (await error.again())(let_through)

    first, second = (call.request for call in server.calls)
    assert "continuationToken" not in first
    assert second == first | {"continuationToken": "more"}


@pytest.mark.parametrize("fault", ["html", "text only"])
async def test_unusable_analysis_is_asked_for_twice_and_not_a_third_time(gemini, server, fault):
    server.script(fault, fault)
    error = await failed(await gemini.prepare_analysis(PICTURE, AnalysisOptions()))
    second = await failed(await error.again())

    assert server.calls[0].request == server.calls[1].request
    assert second.again is None


async def test_proxys_page_is_not_asked_again(gemini, server):
    server.script("html")
    assert (await failed(await generation(gemini))).again is None
