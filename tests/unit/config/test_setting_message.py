"""Every setting: a wrong value gets a message in our words, and unknown names are refused."""

import re

import pytest

from config.settings import SettingsError
from pipelines.settings import Settings, load_settings

NOT_OURS = re.compile(
    r"(?i)input should|unable to|valid |pydantic|instance|constrained|expecting|[a-z]Error\b|errors\."
)
MALFORMED = (
    *(
        "no such thing!",
        "-1",
        "9" * 26,
        "1e999",
        "nan",
        "{",
        "[]",
        "{}",
        "a=b=c",
        "x=",
        "=1",
        "0",
        "maybe",
        "é\0",
        "/rel",
    ),
    *("http://x:very-secret@h:99999999/", "unix://", "default=x", "a,,b", '{"a": {"b": 1}}', '{"a": [1]}', "a=1.5"),
)


@pytest.mark.parametrize("variable", [Settings.variable_of(name) for name in Settings.model_fields])
def test_malformed_setting_is_refused_by_its_name_in_our_words(variable: str) -> None:
    for given in MALFORMED:
        try:
            load_settings({variable: given})
        except SettingsError as error:
            message = str(error)
            said = message.replace(repr(given), "")  # what was given may be quoted
            assert not NOT_OURS.search(said), message
            assert "very-secret" not in message
            assert "\n" not in message
            assert variable in message


@pytest.mark.parametrize(
    ("variable", "given", "said"),
    [
        ("PROVIDER", "local,gemnii", "there is no provider gemnii (did you mean gemini?)"),
        ("PROVIDER", "frobnicate", "there is no provider frobnicate; known are"),
        ("DARKROOM_PROVIDER_LIMITS", "gemnii/concurrency=5", "there is no provider gemnii (did you mean gemini?)"),
        ("DARKROOM_PROVIDER_LIMITS", "concurrency=5", "'concurrency' is unknown"),
        ("DARKROOM_PROVIDER_LIMITS", "gemini/concurency=5", "'gemini/concurency' is unknown"),
        ("DARKROOM_MODEL_PRICES", "gemini-3-pro-image/5K=1", "'gemini-3-pro-image/5K' is no MODEL/UNIT"),
        ("DARKROOM_USER_CAPS", "FREEE=5", "'FREEE' is unknown; known are BASIC, FREE"),
        ("DARKROOM_PRICES", "TIER_8K=5", "'TIER_8K' is unknown"),
        ("DARKROOM_ALLOWANCES", "GOLD=5", "'GOLD' is unknown"),
        ("DARKROOM_BUDGETS", "day_eur=5", "'day_eur' is unknown"),
        ("DARKROOM_LANES", "many", "DARKROOM_LANES='many': must be a whole number"),
        ("DARKROOM_MAX_ANSWER_PIXELS", "5", "must be at least 20,000,000"),
        ("LOG_FORMAT", "xml", "must be 'console' or 'json'"),
    ],
)
def test_name_or_value_that_there_is_not_is_refused(variable: str, given: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings({variable: given})
