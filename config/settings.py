"""The settings that don't depend on a provider, and how settings are read from the environment.

`pipelines.settings.Settings` adds the settings of the registered providers.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar, get_args

from pydantic import SecretStr, ValidationError

from config.dashboard_settings import DashboardSettings
from config.log_settings import LogSettings
from config.masking import SecretMask
from config.metrics_settings import MetricsSettings
from config.money_settings import MoneySettings
from config.periodic_settings import PeriodicSettings
from config.picture_settings import PictureSettings
from config.process_settings import ProcessSettings
from config.provider_settings import ProviderSettings
from config.service_settings import ServiceSettings
from config.setting_group import PREFIX, SettingGroup
from config.setting_message import setting_message

SettingsT = TypeVar("SettingsT", bound=SettingGroup)

_PLACE: Final = re.compile(
    r"(?!constrained-|function-)[a-z][a-z0-9_-]*|[A-Z][A-Z0-9_]*|\d+|[a-zA-Z0-9._-]+/[a-zA-Z0-9_]+"
)
"""Pattern of the parts of a pydantic error's location that a message shows: numbers, and names that people wrote."""

_URL_WITHOUT_SECRETS: Final = re.compile(r"file:[a-zA-Z0-9._/-]*|[a-z][a-z0-9+]*://[a-zA-Z0-9._-]*/?")
"""URLs that a message may show: a folder, or a scheme and a host, in which no password and no key can stand."""

NEAR: Final = 0.8
"""How similar (0 to 1) an unknown name must be to a setting's name for a message to suggest that setting.

All names begin with `DARKROOM_`, so even unrelated names are similar.
"""


class SettingsError(Exception):
    """Raised when the environment can't be used.

    The message is one line that names the variable and says what to do.
    """


class CoreSettings(
    ServiceSettings,
    ProcessSettings,
    PictureSettings,
    MoneySettings,
    PeriodicSettings,
    DashboardSettings,
    MetricsSettings,
    LogSettings,
    ProviderSettings,
):
    """All settings except those of single providers."""


def read_settings(kind: type[SettingsT], environ: Mapping[str, str]) -> SettingsT:
    """Read settings from an environment. An empty variable counts as unset.

    Raises:
        SettingsError: a value is malformed, a required value is missing, or a `DARKROOM_` name is unknown.
    """
    fields = {kind.variable_of(name): name for name in kind.model_fields}
    for name in environ:
        if name.startswith(PREFIX) and name not in fields:
            words = (name, name.removeprefix(PREFIX))  # variables that other programs share have no prefix
            near = [one for word in words for one in difflib.get_close_matches(word, fields, n=1, cutoff=NEAR)]
            meant = f"did you mean {near[0]}? " if near else ""
            raise SettingsError(f"{name} is not a setting; {meant}`darkroom config` lists them all")
    values = {fields[name]: value.strip() for name, value in environ.items() if name in fields and value.strip()}
    try:
        return kind(**values)  # the values are text: the validators parse them
    except ValidationError as error:
        raise SettingsError("; ".join(_complaints(kind, error, values))) from None  # pydantic's text repeats secrets


def _complaints(kind: type[SettingGroup], error: ValidationError, values: Mapping[str, str]) -> list[str]:
    mask = SecretMask()
    complaints: dict[str, list[str]] = {}  # by what is complained of: of a value with several forms, each has its own
    for detail in error.errors(include_url=False):
        message = setting_message(detail)
        if not detail["loc"]:
            complaints[message] = []
            continue
        variable, *inside = map(str, detail["loc"])
        field = {kind.variable_of(known): known for known in kind.model_fields}.get(variable, variable)
        is_shown = not _holds_secret(kind.model_fields[field].annotation) and (
            "url" not in field or _URL_WITHOUT_SECRETS.fullmatch(values.get(field, "")) is not None
        )
        given = f"={values[field]!r}" if is_shown else ""
        named = [part for part in inside if _PLACE.fullmatch(part)]  # the other parts are names of our types
        where = f" ({'.'.join(named)})" if named else ""
        found = complaints.setdefault(mask(f"{kind.variable_of(field)}{given}{where}"), [])
        if message not in found:
            found.append(message)
    lines = [f"{what}: {', or '.join(found)}" if found else what for what, found in complaints.items()]
    return [mask(line).replace("\n", " ") for line in lines]


def _holds_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_holds_secret, get_args(annotation)))
