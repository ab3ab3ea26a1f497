"""Why a host gave no answer, in plain words in place of the client's class names."""

import socket
import ssl
from collections.abc import Iterator

import httpcore
import httpx


def network_words(error: BaseException) -> str:
    """Return why a request to a host got no answer, such as `it refuses connections`."""
    for cause in _causes(error):
        match cause:
            case ConnectionRefusedError():
                return "it refuses connections"
            case socket.gaierror():
                return "nobody knows this host"
            case ssl.SSLError():
                reason = getattr(cause, "reason", None)  # absent where no handshake raised it
                return f"it doesn't agree on TLS ({reason})" if reason else "it doesn't agree on TLS"
            case TimeoutError() | httpx.TimeoutException() | httpcore.TimeoutException():
                return "it doesn't answer in time"
            case httpx.ProtocolError() | httpcore.ProtocolError():
                return "its answer isn't HTTP, or ends too early"
    return "the connection broke"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Return an error's causes, the earliest first.

    Of several attempts to connect, only the first one's error is followed.
    """
    cause = error.__cause__ or error.__context__
    if cause is not None:
        yield from _causes(cause)
    if isinstance(error, BaseExceptionGroup):
        yield from _causes(error.exceptions[0])
    yield error
