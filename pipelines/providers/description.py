"""Descriptions of providers: what must be known before a provider is opened.

Every command imports this, so it imports little.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from config.gate_terms import OTHER_ZONE
from config.provider_settings import ProviderSettings

ModelUse = Literal["analyze", "generate"]


@dataclass(frozen=True, slots=True)
class ProviderDescription:
    """A provider: its name, its settings, its models and its prices.

    Attributes:
        name: its name in PROVIDER.
        opens: `module:callable` of the function that opens it, given the settings, the pool of pixel children and the
            limits of users' pictures. It is imported only when it is called, since that takes half a second.
        settings: the group of its own settings; no other provider has settings of the same names.
        key: the setting that holds its API key; None if it needs none.
        is_default: whether calls go to it if PROVIDER is unset and its API key is set.
        is_paid: whether a call can cost money.
        analyzes: whether it can analyze a picture.
        model_settings: the settings that name its models, by what calls use them for; empty if no setting names any.
        models: names of models that are always its own, whatever the settings say.
        prefixes: prefixes of its models' names, by which a model that no setting names is assigned to a provider.
        prices: USD, the defaults of DARKROOM_MODEL_PRICES: `MODEL/1K`, `/2K`, `/4K` for a picture of that size,
            `MODEL/in`, `/out`, `/image_out` for a million units. With source and date.
        most_side_px: the longest side that its models make; None if that follows from the sizes that have a price.
        quota_zone: the time zone in which its day of quota begins.
    """

    name: str
    opens: str
    settings: type[ProviderSettings] = ProviderSettings
    key: str | None = None
    is_default: bool = False
    is_paid: bool = True
    analyzes: bool = False
    model_settings: Mapping[ModelUse, str] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    most_side_px: int | None = None
    quota_zone: str = OTHER_ZONE
