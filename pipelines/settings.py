"""All settings: those of `config`, and those of each registered provider."""

import difflib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BeforeValidator, Field, create_model, field_validator, model_validator

from config.provider_settings import ProviderSettings
from config.setting_group import contract_field
from config.setting_types import Names, number_by_name
from config.settings import CoreSettings, read_settings
from pipelines.providers.local.description import LOCAL
from pipelines.providers.registry import PROVIDERS

_PRICES_USD = {name: usd for one in PROVIDERS.values() for name, usd in one.prices.items()}
_NEAR = 0.7
"""How similar (0 to 1) a name in PROVIDER must be to a provider's name for the message to suggest that provider."""
_KEYS = {one.name: one.key for one in PROVIDERS.values() if one.is_default and one.key is not None}

if TYPE_CHECKING:  # mypy can't use base classes of a registry: `Settings.of` reads a provider's own settings
    _ProviderGroups = ProviderSettings
else:
    _ProviderGroups = create_model(
        "_ProviderGroups", __base__=tuple(dict.fromkeys(one.settings for one in PROVIDERS.values()))
    )


class Settings(CoreSettings, _ProviderGroups):
    """All settings of the environment, checked. Frozen.

    Tests construct it by field name; the environment isn't read then.
    """

    provider: Names = contract_field(
        "PROVIDER",
        (),
        f"Who analyzes and generates: {', '.join(PROVIDERS)}, or an ordered list for fallback (gemini,local). Unset: "
        f"{', '.join(f'{name} if its key is set' for name in _KEYS)}, else {LOCAL.name} on embedded services",
    )
    model_prices: Annotated[
        Mapping[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], BeforeValidator(number_by_name(_PRICES_USD))
    ] = Field(
        default=_PRICES_USD,
        description="USD by model, as of 2026-10-08: MODEL/1K, /2K, /4K for a picture, MODEL/in, /out, /image_out for "
        "a million units, NAME=usd,...; those not named keep theirs",
    )

    @field_validator("provider", mode="after")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            _require_provider(name)
        return names

    @field_validator("provider_limits", mode="after")
    @classmethod
    def _of_known_providers(cls, limits: Mapping[str, float]) -> Mapping[str, float]:
        for name in limits:
            _require_provider(name.partition("/")[0])
        return limits

    @field_validator("model_prices", mode="after")
    @classmethod
    def _of_known_units(cls, prices: Mapping[str, float]) -> Mapping[str, float]:
        units = sorted({name.rpartition("/")[2] for name in _PRICES_USD})
        for name in prices:
            model, _, unit = name.rpartition("/")
            if not model or unit not in units:
                raise ValueError(f"{name!r} is no MODEL/UNIT; known units are {', '.join(units)}")
        return prices

    @model_validator(mode="after")
    def _no_silent_fallback(self) -> Self:
        if self.database_url and not self.provider and not self._keyed():
            keys = " nor ".join(self.variable_of(key) for key in _KEYS.values())
            raise ValueError(f"DATABASE_URL is set but neither PROVIDER nor {keys} is; set PROVIDER=local or a key")
        return self

    @property
    def providers(self) -> tuple[str, ...]:
        """The names of the providers in the order in which they are asked, with the default filled in; never empty."""
        return self.provider or self._keyed() or (LOCAL.name,)

    def _keyed(self) -> tuple[str, ...]:
        """If PROVIDER is unset, the first of the default providers whose API key is set; empty if none has one."""
        return tuple(name for name, key in _KEYS.items() if getattr(self, key) is not None)[:1]


def _require_provider(name: str) -> None:
    if name not in PROVIDERS:
        near = difflib.get_close_matches(name, PROVIDERS, n=1, cutoff=_NEAR)
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"there is no provider {name}{meant}; known are {', '.join(PROVIDERS)}")


def variable_name(field_name: str) -> str:
    """Return the environment variable of a field of `Settings`."""
    return Settings.variable_of(field_name)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from `environ`; None reads the process's own. An empty variable counts as unset.

    Raises:
        SettingsError: a value is malformed, a required one is missing, or a `DARKROOM_` name is unknown.
    """
    return read_settings(Settings, os.environ if environ is None else environ)
