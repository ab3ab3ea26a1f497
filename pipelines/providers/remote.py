"""HTTP requests to a remote provider. Every failure, from the request to its answer, is raised as an error of ours."""

import ssl
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx

from config.job_terms import MAX_EVIDENCE_CHARS
from pipelines.errors import (
    AnswerTooLargeError,
    BrokenAnswerError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    StageError,
    ThrottledError,
)
from pipelines.network_words import network_words
from pipelines.providers.calls import LookAgain

CONNECT_S, READ_S, WRITE_S = 10.0, 300.0, 60.0
"""Time limits in seconds. Image models send nothing until the picture is ready: 15 to 40 s, minutes at 4K (2026-11)."""

REFUSED_WITHIN_S = 1.0
"""If a connection is closed within this many seconds after the request, without an answer, it counts as a refusal.

No model answers so fast.
"""

BODY_BYTES_PER_PICTURE_BYTE = 2
"""How many bytes of a body are allowed per byte of its picture.

Base64 is a third longer than its picture, with line breaks by half; thoughts and texts come in addition.
"""

PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, 499})
"""Status codes below 500 of temporary errors: google.rpc's ABORTED is 409, CANCELLED 499; the request isn't wrong."""

UNNAMED_STATUS = HTTPStatus.SERVICE_UNAVAILABLE
"""Status of an error in an answer with status 200 if nothing in it names another status."""


MAX_PICTURES = 6
"""Most pictures of one call: the picture, a blend's source, three references and one more. The models accept more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: its status, and a body of any content."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def evidence(self) -> str:
        """The beginning of the body, for error_logs, where it is filtered."""
        return self.body[:MAX_EVIDENCE_CHARS].decode(errors="replace")

    @property
    def is_success(self) -> bool:
        """Whether the status means success; the body may contain an error nevertheless."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@contextmanager
def unsent() -> Iterator[None]:
    """Set `was_sent` to False on errors raised in this block: such a call costs nothing and isn't counted."""
    try:
        yield
    except StageError as error:
        error.was_sent = False
        raise


@cache
def trusted_roots() -> ssl.SSLContext:
    """Return the TLS context that all clients of this process share: reading the roots takes 30 ms of CPU."""
    return httpx.create_ssl_context(trust_env=False)


class RemoteCaller:
    """HTTP client of a provider, with one pool of connections.

    It uses no proxies of the environment, and follows no redirects, whose servers would get the API key.
    """

    def __init__(
        self, name: str, base_url: str, headers: Mapping[str, str], *, max_picture_bytes: int = 100_000_000
    ) -> None:
        """Prepare the client; nothing is connected yet. The API key is in `headers`, and never in a URL."""
        self._name = name
        self._base_url = base_url
        self._max_body_bytes = BODY_BYTES_PER_PICTURE_BYTE * max_picture_bytes
        self._quiet_until_s = float("-inf")
        self._http = httpx.AsyncClient(
            # `identity`: a megabyte of gzip can unpack to a gigabyte, and compression doesn't make pictures smaller
            headers={**headers, "accept-encoding": "identity", "user-agent": "darkroom"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, write=WRITE_S, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            follow_redirects=False,
            verify=trusted_roots(),
            trust_env=False,
        )

    def leave_alone(self, wait: timedelta) -> None:
        """Hold back all calls of this process for a time, also those that the gate has admitted already."""
        self._quiet_until_s = max(self._quiet_until_s, time.monotonic() + wait.total_seconds())

    async def get(self, path: str) -> Reply:
        """Send a GET request for something free of charge, such as a model's name.

        It raises the errors that `post` raises.
        """

        async def look_again() -> None:
            """Raise an error if the provider has asked callers to wait."""
            self._require_quiet_over()

        return await self._exchange("GET", f"{self._base_url}{path}", look_again)

    async def get_link(self, url: httpx.URL) -> Reply:
        """Fetch the object to which an answer of this server links.

        The object is fetched even during a wait, because it is paid for.
        """

        async def look_again() -> None:
            """Do nothing: this request is sent in any case."""

        return await self._exchange("GET", str(url), look_again)

    async def post(self, path: str, look_again: LookAgain, **content: Any) -> Reply:
        """Send a request and read its complete answer; cancelling it closes the connection.

        Args:
            path: the path after the base URL.
            look_again: called once the connection is open, just before the first byte of the request.
            **content: arguments of httpx: `content` and `headers`, or `files` and `data`.

        Raises:
            ThrottledError: the provider has asked for a wait; nothing was sent.
            ProviderUnavailableError: the server wasn't reached, or the request wasn't sent completely, or the
                connection was cut at once after the request.
            ProviderTimedOutError: the request was sent, and no complete answer came; it may have been paid.
            AnswerTooLargeError: the answer exceeds the limit.
            BrokenAnswerError: the answer is compressed.
            ProviderNotConfiguredError: the base URL answers with a redirect.
        """

        async def look() -> None:
            self._require_quiet_over()
            await look_again()

        return await self._exchange("POST", f"{self._base_url}{path}", look, **content)

    async def _exchange(self, method: str, url: str, look_again: LookAgain, **content: Any) -> Reply:
        sent_s: float | None = None
        is_answered = False

        async def trace(event: str, _details: Mapping[str, Any]) -> None:
            nonlocal sent_s, is_answered
            if event.endswith("send_request_headers.started"):
                with unsent():
                    await look_again()
            elif event.endswith("send_request_body.complete"):
                sent_s = time.monotonic()
            elif event.endswith("receive_response_headers.complete"):
                is_answered = True

        try:
            async with self._http.stream(method, url, extensions={"trace": trace}, **content) as response:
                if response.is_redirect:
                    raise ProviderNotConfiguredError(
                        f"{self._name} redirects ({response.status_code}), which isn't followed: the base URL is wrong"
                    )
                body = await self._whole(response)
        except httpx.HTTPError as error:
            if sent_s is None:
                with unsent():
                    where = urlsplit(self._base_url).hostname
                    why = f"{self._name} can't be reached at {where}: {network_words(error)}"
                    raise ProviderUnavailableError(why) from error
            if not is_answered and time.monotonic() - sent_s < REFUSED_WITHIN_S:
                raise ProviderUnavailableError(f"{self._name} cut the connection: {network_words(error)}") from error
            raise ProviderTimedOutError(
                f"{self._name} was asked and gave no whole answer: {network_words(error)}"
            ) from error
        return Reply(response.status_code, body, dict(response.headers))

    def _require_quiet_over(self) -> None:
        quiet_s = self._quiet_until_s - time.monotonic()
        if quiet_s > 0:
            raise ThrottledError(f"{self._name} asked to be left alone", retry_after=timedelta(seconds=quiet_s))

    async def _whole(self, response: httpx.Response) -> bytes:
        packing = response.headers.get("content-encoding", "identity").lower()
        if packing != "identity":
            raise BrokenAnswerError(f"{self._name} packed its answer though told not to: {packing[:20]}")
        body = bytearray()
        chunks: AsyncIterator[bytes] = response.aiter_raw()
        async for chunk in chunks:
            body += chunk
            if len(body) > self._max_body_bytes:
                raise AnswerTooLargeError(
                    f"{self._name} answered with over {self._max_body_bytes:,} bytes; DARKROOM_MAX_ANSWER_BYTES bounds "
                    "what is taken"
                )
        return bytes(body)

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        await self._http.aclose()
