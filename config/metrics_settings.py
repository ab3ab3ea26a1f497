"""Settings of what processes serve by HTTP beside their work: metrics and health."""

from pydantic import Field

from config.network_address import AddressText
from config.setting_group import SettingGroup
from config.setting_types import LongSecret


class MetricsSettings(SettingGroup):
    """Where processes answer, and who may ask."""

    metrics_address: AddressText | None = Field(
        default=None,
        description="HOST:PORT where `darkroom worker` and `darkroom scheduler` serve /metrics, /healthz and /readyz; "
        "port 0 takes a free one. Elsewhere than on loopback /metrics needs DARKROOM_API_TOKEN. Unset: not served",
    )
    api_token: LongSecret | None = Field(
        default=None,
        description="Bearer token that programs send, at least 32 characters: for /metrics elsewhere than on loopback",
    )
