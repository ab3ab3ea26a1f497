"""The command healthcheck: asks a process whether it is ready, for containers."""

import json
import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Annotated, Any, Final
from urllib.parse import SplitResult, urlsplit

import typer

from config.network_address import parse_address
from workers.cli.failures import DONE, FAILED, CommandUsageError
from workers.cli.lazy import later

TIMEOUT_S: Final = 5.0
"""Seconds for the whole answer. A process answers within 3 s, also if its database hangs."""

MOST_BYTES: Final = 100_000
_OK: Final = 200

load_settings = later("pipelines.settings:load_settings")

Url = Annotated[
    str | None,
    typer.Argument(
        metavar="[URL]",
        help="The process's base URL, such as http://127.0.0.1:9100. Without it DARKROOM_METRICS_ADDRESS, or the "
        "dashboard's address if that is unset.",
    ),
]


def healthcheck(url: Url = None) -> int:
    """Ask a process whether it is ready.

    Exits with 0 if its /readyz answers with 200 within 5 s. Otherwise it says why not, and exits with 1. No redirect is
    followed.
    """
    base = _checked(url) if url else urlsplit(_own_url())
    answers: list[str | None] = []
    asking = threading.Thread(target=lambda: answers.append(_reason(base)), daemon=True)
    asking.start()
    asking.join(TIMEOUT_S)  # a server that sends byte after byte never exceeds the socket's own timeout
    reason = answers[0] if answers else f"no whole answer within {TIMEOUT_S:g} s"
    if reason is None:
        return DONE
    typer.echo(f"not ready: {reason}", err=True)
    return FAILED


def _own_url() -> str:
    settings = load_settings()
    address = parse_address(settings.metrics_address or settings.dashboard_address)
    if not address.port:
        raise CommandUsageError("the address has port 0, so nobody knows where the process is: give its URL")
    return address.reachable.url


def _checked(url: str) -> SplitResult:
    """Parse a base URL.

    Raises:
        CommandUsageError: it isn't one.
    """
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # such as a port that is no number
        is_sound = False
    if not is_sound or parts.query or parts.fragment:
        raise CommandUsageError(f"{url!r} is no base URL; give one such as http://127.0.0.1:9100")
    return parts


def _reason(base: SplitResult) -> str | None:
    """Return why a process isn't ready; None if it is."""
    kind = HTTPSConnection if base.scheme == "https" else HTTPConnection
    connection = kind(base.hostname or "", base.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{base.path.rstrip('/')}/readyz")
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
    except (OSError, HTTPException) as error:
        return f"{base.geturl()} doesn't answer: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return None if answer.status == _OK else _words(answer.status, body)


def _words(status: int, body: bytes) -> str:
    """Return the messages of the checks that failed, or the HTTP status if the body isn't ours."""
    try:
        checks: list[dict[str, Any]] = json.loads(body)["checks"]
        failed = [f"{one['name']}: {one['message']}" for one in checks if one["status"] != "ok"]
    except (ValueError, KeyError, TypeError):
        failed = []
    return "; ".join(failed) or f"HTTP status {status}"
