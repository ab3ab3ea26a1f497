"""What everybody must know of a provider before it is opened. Cheap to import: each command reads the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from config.gate_terms import OTHER_ZONE
from config.provider_settings import ProviderSettings

ModelUse = Literal["analyze", "generate"]


@dataclass(frozen=True, slots=True)
class ProviderDescription:
    """One provider: what it is called, what it is configured by, what it sells.

    Attributes:
        name: as in PROVIDER.
        opens: `module:callable` of what opens it, given the settings, the pixel children and the limits of what users
            send. It is imported when it is called, since it takes half a second to.
        settings: the group of its own settings; their names are those of no other provider.
        key: the setting that holds its key; None if it needs none.
        is_default: asked where PROVIDER is unset and its key is set.
        is_paid: a call can cost money.
        analyzes: it can look at a picture.
        model_settings: the settings that name the models it asks, by what it asks them for; empty if it asks none.
        models: names that are its own whatever the settings say.
        prefixes: what the names of its maker's models begin with: whose a model is that no setting names.
        prices: USD, the defaults of DARKROOM_MODEL_PRICES: `MODEL/1K`, `/2K`, `/4K` for a picture of that size,
            `MODEL/in`, `/out`, `/image_out` for a million units. With source and date.
        most_side_px: the longest side that its models make; None if that goes by the sizes that have a price.
        quota_zone: where its day of quota begins.
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
