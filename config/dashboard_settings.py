"""Settings of the dashboard: where it listens, who may use it, and what signs its sessions."""

import ipaddress
from typing import Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from config.network_address import AddressText
from config.setting_group import SettingGroup
from config.setting_types import LEAST_SECRET_CHARS, LongSecret

DEFAULT_ADDRESS: Final = "127.0.0.1:8600"

Auth = Literal["password", "proxy", "none"]


def _url(value: str) -> str:
    parts = urlsplit(value)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ValueError("must be http:// or https:// with a host, and a port where it isn't the usual one")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("must end after its host and port: the dashboard has its host for itself")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    networks = []
    for part in (one.strip() for one in value.split(",")):
        try:
            networks.append(str(ipaddress.ip_network(part)))
        except ValueError:
            raise ValueError(
                f"{part!r} is no network; give addresses or networks such as 10.0.0.7,10.1.0.0/16, without bits "
                "behind the prefix"
            ) from None
    return tuple(networks)


class DashboardSettings(SettingGroup):
    """Where the dashboard listens, and how it knows who somebody is."""

    dashboard_address: AddressText = Field(
        default=DEFAULT_ADDRESS,
        description="Where `darkroom dashboard` and `darkroom up` serve the dashboard, HOST:PORT; port 0 takes a free "
        "one. Where this is unset and taken, `up` takes a free port",
    )
    dashboard_url: Annotated[str, AfterValidator(_url)] | None = Field(
        default=None,
        description="The dashboard's URL as people reach it, such as https://darkroom.example.com; its host is "
        "accepted beside that of the address, and with https cookies are sent on https only. Unset: http:// and the "
        "address",
    )
    dashboard_auth: Auth | None = Field(
        default=None,
        description="How people sign in to the dashboard: password, proxy (a proxy names an operator in "
        "X-Forwarded-User), or none (everybody may do everything; on loopback only). Unset: password once there is an "
        "operator (`darkroom operators add`), and none before, on loopback",
    )
    dashboard_proxies: Annotated[tuple[str, ...], BeforeValidator(_networks)] = Field(
        default=(),
        description="Addresses and networks of proxies, separated by commas, whose X-Forwarded-User and "
        "X-Forwarded-For count. Unset: these headers are ignored",
    )
    secret_key: LongSecret | None = Field(
        default=None,
        description=f"Signs what the dashboard gives out, at least {LEAST_SECRET_CHARS} characters. Unset: made "
        "once, and kept in the database",
    )

    @model_validator(mode="after")
    def _proxy_is_named(self) -> Self:
        if self.dashboard_auth == "proxy" and not self.dashboard_proxies:
            raise ValueError(
                "DARKROOM_DASHBOARD_AUTH=proxy needs DARKROOM_DASHBOARD_PROXIES: nobody else may name an operator"
            )
        return self
