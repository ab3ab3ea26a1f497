"""The settings as tables for people: rows for `darkroom config`, and the text of .env.example."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr

from config.masking import MASK, SecretMask
from config.provider_settings import ProviderSettings
from config.setting_group import PREFIX
from pipelines.settings import Settings, variable_name

_WIDTH: Final = 110
_PREAMBLE: Final = """\
# Every setting of Darkroom with its default. Nothing has to be set: without DATABASE_URL and REDIS_URL it runs
# its own PostgreSQL and Redis under DARKROOM_HOME. Darkroom reads the environment only, never this file:
#   set -a; . ./.env; set +a
"""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as texts without secrets; a text is empty if there is no value.

    `is_set` is true if the environment gave the value.
    """

    name: str
    value: str
    default: str
    meaning: str
    is_set: bool


def describe(settings: Settings) -> list[SettingRow]:
    """Return a row for every setting, with secrets and the passwords in URLs masked."""
    mask = SecretMask(settings.secrets())
    return [
        SettingRow(
            name=variable_name(name),
            value=mask(_text(getattr(settings, name))),
            default=_text(field.default),
            meaning=field.description or "",
            is_set=name in settings.model_fields_set,
        )
        for name, field in ((name, Settings.model_fields[name]) for name in _names())
    ]


def _names() -> list[str]:
    """Return the names of all fields: variables that other programs share come first, providers' settings last."""
    named = [
        (group, name)
        for group in Settings.__mro__
        for name in vars(group).get("__annotations__", ())
        if name in Settings.model_fields
    ]
    named.sort(key=lambda one: (variable_name(one[1]).startswith(PREFIX), issubclass(one[0], ProviderSettings)))
    return [name for _, name in named]


def env_example() -> str:
    """Return the text of `.env.example`: each variable's meaning, and then a commented-out line with its default."""
    entries = [
        textwrap.fill(row.meaning, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
        + f"\n#{row.name}={row.default}\n"
        for row in describe(Settings())
    ]
    return "\n".join([_PREAMBLE, *entries])


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_text(number)}" for name, number in value.items())
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return MASK if isinstance(value, SecretStr) else ",".join(value) if isinstance(value, tuple) else str(value)


if __name__ == "__main__":
    print(env_example(), end="")  # noqa: T201  `python -m pipelines.settings_table > .env.example` renews the file
