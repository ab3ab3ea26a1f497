"""The socket of a server, opened before anything else of its process, so that an address in use is told at once."""

import socket
from dataclasses import dataclass
from typing import Final

from config.network_address import Address, parse_address

BACKLOG: Final = 256


class AddressError(Exception):
    """Raised when a process can't listen at the address of a setting."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and its address with the port that it has."""

    socket: socket.socket
    address: Address


def listening_socket(address: Address) -> socket.socket:
    """Return a socket that listens at an address; port 0 takes a free one. The caller closes it.

    It listens from the beginning, since otherwise another process could bind the same address until then.

    Raises:
        OSError: another process listens there, or this machine has no such address.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(place)
        made.listen(BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def listen(text: str, setting: str) -> Listener:
    """Listen at `HOST:PORT`; port 0 takes a free one. The caller closes the socket.

    Raises:
        AddressError: another process listens there, or this machine has no such address; the message names `setting`.
    """
    wanted = parse_address(text)
    try:
        made = listening_socket(wanted)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressError(f"{setting}={text} can't be listened at: {reason}; name another address") from error
    return Listener(made, Address(wanted.host, made.getsockname()[1]))
