"""Messages for people about Redis and RabbitMQ, in place of the libraries' class names and error numbers."""

import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urlsplit

import redis
from pika.exceptions import AuthenticationError, ProbableAccessDeniedError, ProbableAuthenticationError
from redis.exceptions import NoPermissionError

from models.database_message import database_message

_TITLES: Final = {"redis": "Redis", "rediss": "Redis", "unix": "Redis", "amqp": "RabbitMQ", "amqps": "RabbitMQ"}
_PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}
_LOGIN: Final = (redis.AuthenticationError, AuthenticationError, ProbableAuthenticationError, ProbableAccessDeniedError)
_SYSTEM: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror, ssl.SSLError, TimeoutError)


def broker_place(url: str) -> str:
    """Return the broker of a URL by host and port, never with its password: `Redis at 127.0.0.1:6379`."""
    parts = urlsplit(url)
    title = _TITLES.get(parts.scheme, "the broker")
    if not parts.hostname:
        return f"{title} at {unquote(parts.path)}" if parts.path else title
    try:
        return f"{title} at {parts.hostname}:{parts.port or _PORTS.get(parts.scheme, '')}"
    except ValueError:  # the URL's port isn't a number
        return f"{title} at {parts.hostname}"


def broker_message(error: BaseException) -> str:
    """Return words for what a broker does instead of carrying wake-ups, such as `refuses connections`."""
    causes = list(_causes(error))
    if any(isinstance(one, _LOGIN) for one in causes):
        return "refuses the login"
    for one in causes:
        if isinstance(one, NoPermissionError):
            return f"refuses what wake-ups need: {one}"  # the server's own message, which names the command
        if isinstance(one, _SYSTEM):
            return database_message(one)
    if any(isinstance(one, redis.TimeoutError) for one in causes):
        return "doesn't answer in time"
    if any(isinstance(one, redis.ResponseError) for one in causes):
        return "answers what nobody expects"
    return "broke the connection"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all errors that caused it; pika keeps some of them among the arguments of others."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        held = [getattr(one, "exception", None), *one.args, one.__cause__, one.__context__]
        waiting += [other for other in held if isinstance(other, BaseException)]
