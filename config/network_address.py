"""Addresses at which a process listens, as HOST:PORT."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator
from typing_extensions import override

_MOST_PORT: Final = 65_535
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_OF_THIS_MACHINE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not listened at


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: a name or an IP address without brackets, and a port, where 0 is any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def url(self) -> str:
        """The address as a URL, without a slash at its end."""
        return f"http://{self}"

    @property
    def reachable(self) -> "Address":
        """The address by which this machine reaches it, if it stands for all addresses of the machine."""
        return Address(_OF_THIS_MACHINE.get(self.host, self.host), self.port)

    @override
    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read HOST:PORT; an IPv6 address stands in brackets.

    Raises:
        ValueError: the text is no such address.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port, flags=re.ASCII) or int(port) > _MOST_PORT:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:9100 or [::1]:9100; port 0 takes a free one")
    if host.startswith("[") and host.endswith("]"):
        try:
            return Address(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError("has no IPv6 address between its brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError("must begin with an IP address or a host's name; an IPv6 address stands in brackets")
    return Address(host, int(port))


def _canonical(text: str) -> str:
    return str(parse_address(text))


AddressText = Annotated[str, AfterValidator(_canonical)]
"""The type of a setting that is an address."""
