"""The message for people when PostgreSQL can't be used, in place of the driver's class names and error numbers."""

import socket
import ssl

import asyncpg

from models.connections import DatabaseLostError


def database_message(error: BaseException) -> str:
    """Return what PostgreSQL does instead of answering, such as `refuses connections`, for a sentence about it.

    If PostgreSQL sent a message of its own, that message is returned.
    """
    cause = error.__cause__ if isinstance(error, DatabaseLostError) and error.__cause__ is not None else error
    match cause:
        case ConnectionRefusedError():
            words = "refuses connections"
        case FileNotFoundError():
            words = "has no socket there"
        case socket.gaierror():
            words = "isn't found: nobody knows this host"
        case ssl.SSLError():
            words = f"doesn't agree on TLS ({cause.reason})" if cause.reason else "doesn't agree on TLS"
        case TimeoutError():
            words = "doesn't answer in time"
        case asyncpg.PostgresError():
            words = f"says: {str(cause).splitlines()[0]}"
        case asyncpg.InterfaceError():
            words = "broke the connection"
        case OSError():
            words = f"can't be reached: {cause.strerror}" if cause.errno and cause.strerror else "can't be reached"
        case _:
            words = "can't be used now"
    return words
