"""Rules that every registered provider keeps, each against its own fake server, found by the provider's name."""

import asyncio
import json
import logging
import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import get_args
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from config.log import secret_mask
from config.masking import MASK
from config.provider_settings import ProviderSettings
from config.settings import SettingsError
from pipelines.corrections import ALL_CORRECTIONS
from pipelines.errors import (
    BadImageError,
    ProviderNotConfiguredError,
    StageError,
    ThrottledError,
    TransientError,
    UnknownModelError,
)
from pipelines.imaging.header import DecodeLimits, read_header
from pipelines.job import Prompt
from pipelines.limits import answer_limits
from pipelines.options import AnalysisOptions
from pipelines.prompts import Purpose
from pipelines.providers.calls import Answer
from pipelines.providers.opening import open_provider
from pipelines.providers.provider import EncodedImage
from pipelines.providers.registry import PROVIDERS
from pipelines.providers.seen import seen
from pipelines.providers.terms import model_terms
from pipelines.settings import Settings, load_settings, variable_name
from pipelines.settings_table import describe
from tests.contract.providers import scripted
from tests.contract.providers.server import FAILURES, server_of
from tests.support.imaging_pictures import encoded, photo
from tests.support.patience import HANGS_AFTER_S
from tests.support.scripted_provider import SCRIPTED
from workers.gate.rules import rules_of, stops_of
from workers.operations.checks.outside import check_providers
from workers.running.translation import MOST_PICTURES

LIMITS = DecodeLimits()
PROMPT = Prompt("Make it better.", ALL_CORRECTIONS)
PICTURE = EncodedImage(encoded(photo(300, 200), "JPEG"))
SECRET = "a-secret-of-one-provider's-own"
LOOKS_SECRET = re.compile(r"key|secret|token|password|credential")
PRICE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/(?:1K|2K|4K|in|out|image_out)")

ALL = {**PROVIDERS, SCRIPTED.name: replace(SCRIPTED, opens=scripted.OPENS)}
PAID = [name for name, one in ALL.items() if one.is_paid]
KEYED = [name for name, one in ALL.items() if one.key is not None]


@pytest.fixture
def description(name, monkeypatch):
    """The description of the provider that a test is about; that of the tests' own is registered meanwhile."""
    monkeypatch.setitem(PROVIDERS, SCRIPTED.name, ALL[SCRIPTED.name])
    return ALL[name]


@pytest.fixture
def server(description):
    with server_of(description.name) as server:
        yield server


@pytest.fixture
def settings(description, server):
    return Settings(provider=(description.name,), **server.settings)


@pytest.fixture
async def provider(description, settings, pixels):
    opened = open_provider(description.name, settings, pixels, LIMITS)
    yield opened
    await opened.aclose()
    await opened.aclose()  # nothing happens


def every(names):
    return pytest.mark.parametrize("name", list(names), ids=list(names))


async def let_through():
    """Find nothing that holds the call back."""


async def refuse():
    raise ThrottledError("not now", retry_after=timedelta(seconds=9))


async def generate(provider, look_again=let_through, picture=PICTURE, long_side_px=1024):
    send = await provider.prepare_generation(PROMPT, [picture], long_side_px, 1.5)
    return await send(look_again)


# What is known before it is opened


@every(ALL)
def test_description_says_what_the_provider_says(description, provider):
    assert (provider.name, provider.is_paid) == (description.name, description.is_paid)
    assert issubclass(description.settings, ProviderSettings)
    assert {description.key, *description.model_settings.values()} - {None} <= Settings.model_fields.keys()


@every(ALL)
def test_own_settings_are_no_other_providers_and_say_what_they_mean(description):
    own = set(vars(description.settings).get("__annotations__", ())) - set(vars(ProviderSettings)["__annotations__"])
    others = [one.settings for name, one in PROVIDERS.items() if name != description.name]

    assert not own & {field for other in others for field in vars(other).get("__annotations__", ())}
    assert all(description.settings.model_fields[field].description for field in own)


@every(ALL)
def test_prices_are_named_well_and_every_model_that_is_asked_by_default_has_one(description):
    assert [name for name in description.prices if not PRICE_NAME.fullmatch(name)] == []
    assert min(description.prices.values(), default=0) >= 0
    if description.model_settings:
        unpriced = model_terms(Settings(provider=(description.name,)))["unpriced"]
        assert unpriced == {"generate": [], "analyze": []}


@every(ALL)
def test_gate_knows_when_its_day_begins_and_what_stops_it(description, settings):
    assert ZoneInfo(rules_of(settings, description.name)["zone"]).key == description.quota_zone
    assert stops_of(settings) == [[f"provider:{description.name}", *(["buying"] if description.is_paid else [])]]


@every(ALL)
def test_name_is_taken_in_PROVIDER_and_nothing_near_it(description):  # noqa: N802 - the variable's name
    assert load_settings({"PROVIDER": description.name}).providers == (description.name,)
    with pytest.raises(SettingsError, match=f"PROVIDER=.*there is no provider {description.name}x .did you mean"):
        load_settings({"PROVIDER": f"{description.name}x"})


# Secrets


def holds_secret(annotation):
    return annotation is SecretStr or any(map(holds_secret, get_args(annotation)))


@every(ALL)
def test_settings_that_look_secret_are_of_a_type_that_is_masked(description):
    fields = description.settings.model_fields
    looking = {field for field in vars(description.settings).get("__annotations__", ()) if LOOKS_SECRET.search(field)}

    assert {field for field in looking if not holds_secret(fields[field].annotation)} == set()
    assert description.key is None or holds_secret(fields[description.key].annotation)


@every(KEYED)
def test_key_is_masked_in_logs_and_in_what_is_shown(description):
    settings = load_settings({variable_name(description.key): SECRET, "PROVIDER": description.name})
    mask = secret_mask(settings, {})

    assert SECRET not in mask(f"a line that holds {SECRET} and goes on")
    assert MASK in mask(f"a line that holds {SECRET} and goes on")
    assert SECRET not in f"{describe(settings)} {settings!r} {settings}"


@every(KEYED)
async def test_without_its_key_it_says_which_variable_to_set(description, pixels):
    opened = open_provider(description.name, Settings(provider=(description.name,)), pixels, LIMITS)
    words = f"set {variable_name(description.key)}"
    with pytest.raises(ProviderNotConfiguredError, match=words):
        opened.quote_generation(PROMPT, 1024)
    with pytest.raises(ProviderNotConfiguredError, match=words):
        await opened.prepare_generation(PROMPT, [PICTURE], 1024, None)
    with pytest.raises(ProviderNotConfiguredError, match=words):
        await opened.check()
    await opened.aclose()


@every(PAID)
@pytest.mark.parametrize("failure", FAILURES)
async def test_key_is_in_no_log_and_in_no_error(provider, description, settings, server, failure, caplog):
    caplog.set_level(logging.DEBUG)
    server.fail_with(failure)
    with pytest.raises(StageError) as caught:
        await generate(provider)

    for secret in settings.secrets():
        assert secret not in f"{caplog.text} {caught.value!r}"
        assert secret not in secret_mask(settings, {})(caught.value.evidence or "")  # as it is stored


# Calls


@every(ALL)
async def test_picture_comes_from_the_model_that_was_quoted_and_says_its_price(provider, settings, server):
    quote = provider.quote_generation(PROMPT, 1024)
    answer = await generate(provider)

    assert (answer.model, quote.images, answer.usage.images) == (quote.model, 1, 1)
    assert read_header(answer.value.data, answer_limits(settings)).width_px > 0
    assert answer.usage.cost_usd is None or answer.usage.cost_usd >= 0
    assert (quote.cost_usd > Decimal(0)) is provider.is_paid
    assert server.sent == (0 if not server.settings and not provider.is_paid else 1)


@every(ALL)
async def test_as_many_pictures_as_a_job_works_on_make_one(provider, pixels):
    pictures = [EncodedImage(encoded(photo(300 - 10 * number, 200), "JPEG")) for number in range(MOST_PICTURES)]

    send = await provider.prepare_generation(PROMPT, pictures, 1024, 1.5)
    answer = await seen(await send(let_through), 1024, pixels, LIMITS)

    header = read_header(answer.value.data, LIMITS)
    assert max(header.width_px, header.height_px) >= 1024
    assert answer.unseen is None


@every(ALL)
async def test_analysis_comes_or_is_refused_as_the_description_says(provider, description):
    if not description.analyzes:
        with pytest.raises(ProviderNotConfiguredError, match="can't"):
            provider.quote_analysis(AnalysisOptions())
        with pytest.raises(ProviderNotConfiguredError, match="can't"):
            await provider.prepare_analysis(PICTURE, AnalysisOptions())
        return
    send = await provider.prepare_analysis(PICTURE, AnalysisOptions())
    answer = await send(let_through)

    assert isinstance(answer, Answer)
    assert answer.model == provider.quote_analysis(AnalysisOptions()).model
    assert answer.value.source
    assert json.dumps(answer.value.to_json())


@every(PAID)
async def test_nothing_leaves_before_it_is_sent_and_nothing_after_a_last_look_that_refuses(provider, server):
    send = await provider.prepare_generation(PROMPT, [PICTURE], 1024, 1.5)
    assert server.sent == 0
    with pytest.raises(ThrottledError) as held:
        await send(refuse)

    assert (server.sent, held.value.was_sent) == (0, False)
    await generate(provider)
    assert server.sent == 1


@every(PAID)
@pytest.mark.parametrize("failure", FAILURES)
async def test_failure_is_the_error_of_ours_that_it_means(provider, server, failure):
    kind, is_paid = FAILURES[failure]
    server.fail_with(failure)
    with pytest.raises(kind) as caught:
        await generate(provider)

    assert server.sent == 1
    assert caught.value.was_sent
    assert isinstance(caught.value, TransientError) is issubclass(kind, TransientError)
    assert getattr(caught.value, "is_paid", False) is is_paid
    if isinstance(caught.value, ThrottledError):
        assert timedelta(0) < caught.value.retry_after <= timedelta(days=1)


@every(name for name in ALL if name != SCRIPTED.name)
async def test_refused_picture_is_never_sent(provider, server):
    with pytest.raises(BadImageError):
        await generate(provider, picture=EncodedImage(b"<svg/>"))

    assert server.sent == 0


@every(PAID)
async def test_call_that_is_cancelled_ends_at_once(provider):
    looked = asyncio.Event()

    async def look():
        looked.set()
        await asyncio.sleep(2 * HANGS_AFTER_S)

    call = asyncio.create_task(generate(provider, look))
    async with asyncio.timeout(HANGS_AFTER_S):
        await looked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


# Models


@every(name for name, one in ALL.items() if one.model_settings)
async def test_models_of_others_and_models_without_a_price_are_never_asked(provider, description, server):
    others = {prefix: one.name for one in PROVIDERS.values() for prefix in one.prefixes if one is not description}
    for prefix in others:
        with pytest.raises((ProviderNotConfiguredError, UnknownModelError)):
            provider.quote_generation(replace(PROMPT, model=f"{prefix}9"), 1024)
    with pytest.raises(UnknownModelError, match="has no price"):
        provider.quote_generation(replace(PROMPT, model="a-model-that-nobody-makes"), 1024)
    assert server.sent == 0


@every(name for name, one in ALL.items() if "generate" in one.model_settings)
async def test_identity_is_another_with_another_model(provider, description, settings, pixels):
    other = settings.model_copy(update={description.model_settings["generate"]: "another-model-1"})
    opened = open_provider(description.name, other, pixels, LIMITS)

    assert opened.identity != provider.identity
    await opened.aclose()


@every(name for name, one in ALL.items() if one.model_settings)
async def test_check_finds_the_models_that_are_there_and_names_the_setting_of_one_that_is_not(
    provider, description, settings, server, pixels
):
    await provider.check()
    for field in description.model_settings.values():
        opened = open_provider(
            description.name, settings.model_copy(update={field: "a-model-that-nobody-makes"}), pixels, LIMITS
        )
        with pytest.raises(ProviderNotConfiguredError, match=variable_name(field)):
            await opened.check()
        await opened.aclose()
    assert server.sent == 0


@every(ALL)
async def test_doctor_shows_it(description, settings, pixels):
    (found,) = await check_providers(settings, pixels)

    assert (found.name, found.status, found.message) == ("provider", "ok", description.name)


@every(ALL)
async def test_what_it_cant_make_of_words_it_refuses_before_it_is_asked(provider, description, server):
    words = replace(PROMPT, purpose=Purpose.GENERATE)
    if description.is_paid:
        assert provider.quote_generation(words, 1024).images == 1
    else:
        with pytest.raises(ProviderNotConfiguredError, match="words"):
            provider.quote_generation(words, 1024)
    assert server.sent == 0
