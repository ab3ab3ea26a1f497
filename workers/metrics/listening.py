"""The socket of a server, opened before anything else of its process, so that an address in use is told at once."""

import socket
from dataclasses import dataclass

from config.network_address import Address, parse_address


class AddressError(Exception):
    """Raised when a process can't listen at the address of a setting."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket, and its address with the port that it has."""

    socket: socket.socket
    address: Address


def listen(text: str, setting: str) -> Listener:
    """Listen at `HOST:PORT`; port 0 takes a free one. The caller closes the socket.

    Raises:
        AddressError: another process listens there, or this machine has no such address; the message names `setting`.
    """
    wanted = parse_address(text)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            wanted.host, wanted.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen()
        except BaseException:
            made.close()
            raise
    except OSError as error:
        reason = error.strerror or str(error)
        raise AddressError(f"{setting}={text} can't be listened at: {reason}; name another address") from error
    return Listener(made, Address(wanted.host, made.getsockname()[1]))
