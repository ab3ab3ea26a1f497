"""Which hosts a dashboard answers for, and from which address a request comes."""

import ipaddress
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from config.network_address import Address

USUAL_PORTS: Final = {"http": 80, "https": 443}
ROUTED_BITS: Final = 64
"""Bits of an IPv6 address by which one customer of a provider is told from another; the rest is chosen freely."""


@dataclass(frozen=True)
class Hosts:
    """The names by which people reach a dashboard.

    A page of another site can have its own name resolve to this machine (DNS rebinding). Its script would then count as
    ours, so a request for any other host is refused.

    Attributes:
        address: where the dashboard listens.
        url: as people reach it, without a path; None if only the address is known.
        proxies: networks whose X-Forwarded-For and X-Forwarded-User count.
    """

    address: Address
    url: str | None = None
    proxies: Sequence[str] = ()

    @property
    def is_https(self) -> bool:
        """Whether people reach the dashboard by https, so that cookies may be kept from http."""
        return self.url is not None and self.url.startswith("https:")

    @cached_property
    def accepted(self) -> frozenset[str]:
        """The values of `Host` that are accepted, in lower case."""
        return frozenset(host for origin in self.origins for host in _hosts_of(origin))

    @cached_property
    def origins(self) -> frozenset[str]:
        """The values of `Origin` that pages of this dashboard have, in lower case."""
        names = [self.address.host, "localhost"]
        if self.address.is_loopback or _is_any(self.address.host):
            names += ["127.0.0.1", "::1"]
        local = {f"http://{Address(name.lower(), self.address.port)}" for name in names}
        return frozenset({_shortened(origin) for origin in local} | ({_shortened(self.url)} if self.url else set()))

    def is_ours(self, origin: str) -> bool:
        """Return whether a value of `Origin` is that of a page of this dashboard."""
        return origin.lower() in self.origins

    def is_accepted(self, headers: Headers) -> bool:
        """Return whether a request is for this dashboard: it has one `Host`, which is accepted."""
        given = headers.getlist("host")
        return len(given) == 1 and given[0].strip().lower() in self.accepted

    @cached_property
    def _networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(ipaddress.ip_network(one) for one in self.proxies)

    def is_proxy(self, address: str) -> bool:
        """Return whether an address is that of a proxy that may say who and where a request comes from."""
        found = _ip(address)
        return found is not None and any(found in network for network in self._networks)

    def client(self, headers: Headers, peer: str) -> str:
        """Return the address that a request counts for: the last one in X-Forwarded-For that isn't a named proxy's.

        Whatever stands before it was written by the client. Of an IPv6 address only the network counts.

        Args:
            headers: of the request.
            peer: the address of the connection.
        """
        address = peer
        forwarded = [one.strip() for line in headers.getlist("x-forwarded-for") for one in line.split(",")]
        while forwarded and self.is_proxy(address) and _ip(forwarded[-1]) is not None:
            address = forwarded.pop()
        found = _ip(address)
        if isinstance(found, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((found, ROUTED_BITS), strict=False))
        return str(found or address)

    def named(self, headers: Headers, peer: str) -> str | None:
        """Return the operator whom a proxy names in X-Forwarded-User; None if it isn't one that may, or names several.

        Args:
            headers: of the request.
            peer: the address of the connection.
        """
        given = headers.getlist("x-forwarded-user")
        if len(given) != 1 or not self.is_proxy(peer):
            return None
        try:
            name = given[0].strip().encode("latin-1").decode()  # headers are read as latin-1, and written as UTF-8
        except UnicodeError:
            return None
        return unicodedata.normalize("NFC", name) or None


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an IP address; an IPv4 one that is written as IPv6 counts as IPv4; None for anything else."""
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, ipaddress.IPv6Address) else found


def _is_any(host: str) -> bool:
    found = _ip(host)
    return found is not None and found.is_unspecified


def _shortened(url: str) -> str:
    """Return an origin as browsers write it, without the scheme's usual port."""
    parts = urlsplit(url.lower())
    return url.lower().removesuffix(f":{USUAL_PORTS[parts.scheme]}")


def _hosts_of(origin: str) -> set[str]:
    """Return the values of `Host` for an origin; some proxies leave the port out, others write the usual one."""
    parts = urlsplit(origin)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    with_port = f"{host}:{parts.port or USUAL_PORTS[parts.scheme]}"
    return {with_port, parts.netloc} | ({host} if parts.scheme == "https" else set())
