"""Reading the settings from the environment, and messages that name the variable."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from config.setting_group import SettingGroup, contract_field
from config.settings import SettingsError, read_settings
from pipelines.providers.registry import PROVIDERS
from pipelines.settings import Settings, load_settings, variable_name
from pipelines.settings_table import describe, env_example

REPOSITORY = Path(__file__).parents[3]
EXTERNAL = {"DATABASE_URL": "postgres://u:hunter2hunter2@h/d", "REDIS_URL": "redis://h", "PROVIDER": "local"}


def test_settings_without_environment_are_embedded_and_local() -> None:
    settings = load_settings({})

    assert settings.is_embedded
    assert settings.providers == ("local",)
    assert (settings.lanes, settings.lease_s, settings.poll_s, settings.max_wait_s) == (64, 15, 1, 86_400)
    assert (settings.max_image_bytes, settings.max_image_pixels) == (25_000_000, 64_000_000)
    assert settings.prices == {"FREE": 0, "TIER_1K": 2, "TIER_2K": 5, "TIER_4K": 10}
    assert settings.home == Path.home() / ".darkroom"


def test_settings_constructed_by_field_name_ignore_the_process_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_LANES", "3")

    assert Settings(processes=1).lanes == 64
    assert load_settings().lanes == 3


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("PROVIDER", "openai, local", "providers", ("openai", "local")),
        ("PROVIDER", '["openai", "local"]', "providers", ("openai", "local")),
        ("DARKROOM_QUEUES", "default,gpu", "queues", ("default", "gpu")),
        (
            "DARKROOM_STAGE_QUEUES",
            "ANALYZING=cpu,GENERATING=gpu",
            "stage_queues",
            {"ANALYZING": "cpu", "GENERATING": "gpu"},
        ),
        ("DARKROOM_STAGE_QUEUES", "{}", "stage_queues", {}),
        ("DARKROOM_STAGE_DEADLINES", "GENERATING=600", "stage_deadlines.GENERATING", 600),
        ("DARKROOM_STAGE_DEADLINES", '{"CROPPING": 1.5}', "stage_deadlines.CROPPING", 1.5),
        ("DARKROOM_PRICES", "TIER_2K=7", "prices.TIER_2K", 7),
        ("DARKROOM_USER_CAPS", "FREE=2,PREMIUM=10", "user_caps", {"FREE": 2, "PREMIUM": 10}),
        ("DARKROOM_RETENTION", "stage_runs=7", "retention.stage_runs", 7),
        ("DARKROOM_SUBSCRIPTIONS", "on", "subscriptions", True),
        ("DARKROOM_SHUTDOWN_GRACE_S", "0", "shutdown_grace_s", 0),
        ("DARKROOM_LANES", "", "lanes", 64),
        ("PROVIDER", "gemini,local", "providers", ("gemini", "local")),
        ("GEMINI_API_KEY", "k" * 39, "providers", ("gemini",)),
        ("STORAGE_URL", "file:///srv/pictures", "storage_url", "file:///srv/pictures"),
        ("GEMINI_BASE_URL", "http://127.0.0.1:8000/", "gemini_base_url", "http://127.0.0.1:8000"),
        ("DARKROOM_HOME", "~/x", "home", Path.home() / "x"),
    ],
)
def test_settings_text_becomes_the_value(name: str, text: str, field: str, value: object) -> None:
    settings = load_settings({name: text})

    attribute, _, key = field.partition(".")
    found = getattr(settings, attribute)
    assert (found[key] if key else found) == value


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DARKROOM_LANE": "3"}, ["DARKROOM_LANE ", "DARKROOM_LANES"]),
        ({"DARKROOM_DATABASE_URL": "x"}, ["DARKROOM_DATABASE_URL", "mean DATABASE_URL"]),
        ({"DARKROOM_LANES": "many"}, ["DARKROOM_LANES='many'", "whole number"]),
        ({"DARKROOM_LANES": "1.5"}, ["DARKROOM_LANES='1.5'"]),
        ({"DARKROOM_LANES": "0"}, ["DARKROOM_LANES", "greater than 0"]),
        ({"DARKROOM_POLL_S": "inf"}, ["DARKROOM_POLL_S", "finite"]),
        ({"DARKROOM_QUEUES": "a,,b"}, ["DARKROOM_QUEUES", "not a name"]),
        ({"DARKROOM_QUEUES": "a,a"}, ["DARKROOM_QUEUES", "twice"]),
        ({"DARKROOM_STAGE_QUEUES": "GENERATING"}, ["DARKROOM_STAGE_QUEUES", "is not name=queue"]),
        ({"DARKROOM_STAGE_QUEUES": "GENERATING=a b"}, ["DARKROOM_STAGE_QUEUES", "is no queue"]),
        ({"DARKROOM_SUBSCRIPTIONS": "maybe"}, ["DARKROOM_SUBSCRIPTIONS='maybe'", "on or off"]),
        ({"DARKROOM_MODEL_PRICES": "gpt-image-1/1K=x"}, ["(gpt-image-1/1K): must be a number"]),
        ({"DARKROOM_RETENTION": "stage_runs=x"}, ["(stage_runs): must be a whole number, or must be a JSON object"]),
        ({"GEMINI_API_KEY": "hunter2\nhunter2"}, ["GEMINI_API_KEY: must be of ASCII"]),
        ({"OPENAI_API_KEY": "hunter2 \u043a"}, ["OPENAI_API_KEY: must be of ASCII"]),
        ({"DARKROOM_PRICES": "TIER_9K=3"}, ["DARKROOM_PRICES", "TIER_1K"]),
        ({"DARKROOM_PRICES": "TIER_1K=-3"}, ["DARKROOM_PRICES", "TIER_1K"]),
        ({"DARKROOM_PRICES": "TIER_1K"}, ["DARKROOM_PRICES", "name=number"]),
        ({"DARKROOM_PRICES": "{TIER_1K"}, ["DARKROOM_PRICES", "not JSON"]),
        ({"DARKROOM_RETENTION": "audit_logs=1"}, ["DARKROOM_RETENTION", "audit_logs"]),
        ({"DARKROOM_COST_COLUMN": 'x"; drop'}, ["DARKROOM_COST_COLUMN", "column"]),
        ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL", "'debug'"]),
        ({"TOKENS": "mine"}, ["TOKENS", "'managed'"]),
        ({"STORAGE_URL": "file://srv/x"}, ["STORAGE_URL", "file:///"]),
        ({"STORAGE_URL": "/srv/x"}, ["STORAGE_URL", "s3://"]),
        ({"STORAGE_URL": "s3://bucket/x"}, ["STORAGE_PUBLIC_URL"]),
        ({"GEMINI_BASE_URL": "http://example.com"}, ["GEMINI_BASE_URL='http://example.com'", "https"]),
        ({"GEMINI_BASE_URL": "http://example.com/hunter2"}, ["GEMINI_BASE_URL: must"]),
        ({**EXTERNAL, "REDIS_URL": "http://hunter2:hunter2"}, ["REDIS_URL: must"]),
        ({**EXTERNAL, "REDIS_URL": "hunter2hunter2"}, ["REDIS_URL: must"]),
        ({**EXTERNAL, "BROKER_URL": "kafka://h"}, ["BROKER_URL", "amqp://"]),
        ({**EXTERNAL, "BROKER_URL": "amqp://"}, ["BROKER_URL", "ends after amqp://"]),
        ({**EXTERNAL, "REDIS_URL": "redis://"}, ["REDIS_URL", "ends after redis://"]),
        ({**EXTERNAL, "DATABASE_URL": "mysql://u:hunter2hunter2@h/d"}, ["DATABASE_URL", "postgresql://"]),
        ({**EXTERNAL, "REDIS_URL": ""}, ["DATABASE_URL is set", "REDIS_URL is not"]),
        ({**EXTERNAL, "REDIS_URL": "", "BROKER_URL": "kafka://h"}, ["BROKER_URL", "amqp://"]),
        ({"REDIS_URL": "redis://h"}, ["REDIS_URL is set", "DATABASE_URL is not"]),
        ({**EXTERNAL, "PROVIDER": ""}, ["PROVIDER", "GEMINI_API_KEY"]),
        ({"PROVIDER": "gemnii"}, ["PROVIDER='gemnii'", "no provider gemnii", "did you mean gemini?"]),
        ({"PROVIDER": "local,magic"}, ["no provider magic;", f"known are {', '.join(PROVIDERS)}"]),
        ({"DATABASE_DIRECT_URL": "postgres://h/d"}, ["DATABASE_DIRECT_URL is set", "DATABASE_URL is not"]),
    ],
)
def test_settings_malformed_value_is_named_on_one_line(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)

    message = str(caught.value)
    assert [word for word in words if word not in message] == []
    assert "\n" not in message
    assert "hunter2" not in message


def test_settings_printed_hold_no_secret() -> None:
    settings = load_settings({**EXTERNAL, "GEMINI_API_KEY": "AIza" + "x" * 35})

    rows = {row.name: row for row in describe(settings)}
    printed = repr(settings) + str(settings) + repr(rows)
    assert "hunter2" not in printed
    assert "AIza" not in printed
    assert rows["DATABASE_URL"].value == "postgres://u:***@h/d"
    assert (rows["DARKROOM_LANES"].default, rows["DARKROOM_LANES"].is_set) == ("64", False)
    assert all(row.meaning for row in rows.values())


class TokenSettings(SettingGroup):
    acme_token: Annotated[SecretStr, Field(min_length=100)] | None = contract_field("ACME_TOKEN", None, "A key")


def test_settings_malformed_secret_is_not_repeated_whatever_it_is_called() -> None:
    with pytest.raises(SettingsError, match=r"^ACME_TOKEN: ") as caught:
        read_settings(TokenSettings, {"ACME_TOKEN": "hunter2hunter2"})

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("variable", ["GEMINI_BASE_URL", "OPENAI_BASE_URL", "STORAGE_PUBLIC_URL", "BROKER_URL"])
def test_password_of_any_url_is_a_secret(variable: str) -> None:
    scheme = "redis" if variable == "BROKER_URL" else "https"
    settings = load_settings({variable: f"{scheme}://u:hunter2hunter2@h"})

    assert settings.secrets() == ("hunter2hunter2",)
    assert "hunter2" not in repr(describe(settings))


def test_env_example_equals_the_settings() -> None:
    written = (REPOSITORY / ".env.example").read_text()

    assert written == env_example(), "renew it: python -m pipelines.settings_table > .env.example"


def test_env_example_with_every_line_uncommented_is_the_default() -> None:
    lines = [line[1:] for line in env_example().splitlines() if line.startswith("#") and line[1:2].isupper()]
    environ = dict(line.split("=", 1) for line in lines)

    assert environ.keys() == {variable_name(name) for name in Settings.model_fields}
    assert load_settings(environ).model_dump() == Settings().model_dump()


def test_rabbitmq_as_the_broker_needs_no_redis() -> None:
    settings = load_settings(EXTERNAL | {"REDIS_URL": "", "BROKER_URL": "amqp://h"})

    assert (settings.redis_url, settings.broker_url) == (None, "amqp://h")
