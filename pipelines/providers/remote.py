"""One POST to a remote provider, with everything that can go wrong between us and its answer."""

import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any

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
from pipelines.providers.calls import LookAgain

CONNECT_S, READ_S, WRITE_S = 10.0, 300.0, 60.0
"""Image models send nothing, not even headers, until the picture is ready: 15 to 40 s, minutes at 4K (2026-11)."""

REFUSED_WITHIN_S = 1.0
"""A connection cut so soon after the request, without a byte of an answer, is a refusal: no model is as fast."""

BODY_BYTES_PER_PICTURE_BYTE = 2
"""Base64 takes a third more than its picture, with line breaks half, and thoughts and words stand beside it."""

PASSING_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, 499})
"""Below 500, and over in a moment: google.rpc's ABORTED is 409, CANCELLED 499; neither is the request's fault."""

UNNAMED_STATUS = HTTPStatus.SERVICE_UNAVAILABLE
"""Of an error in an answer whose own status is 200, where nothing in it says which."""


MAX_PICTURES = 6
"""Of one call: a picture, a blend's source and three references fit with room. The models take more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer: its status, and a body of any content."""

    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def evidence(self) -> str:
        """The beginning of the body, for error_logs; filtered there."""
        return self.body[:MAX_EVIDENCE_CHARS].decode(errors="replace")

    @property
    def is_success(self) -> bool:
        """The status says that all is well; the body may say otherwise."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES


@contextmanager
def unsent() -> Iterator[None]:
    """Mark what fails in here as never sent: it costs nothing and counts nowhere."""
    try:
        yield
    except StageError as error:
        error.was_sent = False
        raise


class RemoteCaller:
    """A provider's HTTP client: no environment proxies, no redirects followed (the key would travel), one pool."""

    def __init__(
        self, name: str, base_url: str, headers: Mapping[str, str], *, max_picture_bytes: int = 100_000_000
    ) -> None:
        """Prepare the client; nothing is connected yet. `headers` hold the key, and no URL ever does."""
        self._name = name
        self._base_url = base_url
        self._max_body_bytes = BODY_BYTES_PER_PICTURE_BYTE * max_picture_bytes
        self._quiet_until_s = float("-inf")
        self._http = httpx.AsyncClient(
            # identity: a megabyte of gzip can unpack to a gigabyte, and pictures don't shrink
            headers={**headers, "accept-encoding": "identity", "user-agent": "darkroom"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S, write=WRITE_S, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=16),
            follow_redirects=False,
            trust_env=False,
        )

    def leave_alone(self, wait: timedelta) -> None:
        """Send nothing for so long: other calls of this process were admitted before the 429 is written down."""
        self._quiet_until_s = max(self._quiet_until_s, time.monotonic() + wait.total_seconds())

    async def get(self, path: str) -> Reply:
        """Ask for what costs nothing, such as the name of a model; raises as `post` does."""

        async def look_again() -> None:
            """Look at nothing but whether it wants to be left alone: nothing is bought."""
            self._require_quiet_over()

        return await self._exchange("GET", f"{self._base_url}{path}", look_again)

    async def get_link(self, url: httpx.URL) -> Reply:
        """Fetch what an answer of this server links to, also while it wants to be left alone: it is paid for."""

        async def look_again() -> None:
            """Look at nothing."""

        return await self._exchange("GET", str(url), look_again)

    async def post(self, path: str, look_again: LookAgain, **content: Any) -> Reply:
        """Send a request and read its whole answer; cancelling it closes the stream.

        Args:
            path: from the base URL on.
            look_again: asked once the connection stands, just before the request's first byte.
            **content: as httpx takes it: `content` and `headers`, or `files` and `data`.

        Raises:
            ThrottledError: it asked to be left alone; nothing was sent.
            ProviderUnavailableError: nobody was reached, or not with the whole request: nothing was sent; or sent
                and cut off at once.
            ProviderTimedOutError: sent, and no whole answer came: it may have been paid.
            AnswerTooLargeError: the answer is over the limit.
            BrokenAnswerError: the answer is packed.
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
                    raise ProviderUnavailableError(f"{self._name} can't be reached: {type(error).__name__}") from error
            if not is_answered and time.monotonic() - sent_s < REFUSED_WITHIN_S:
                raise ProviderUnavailableError(f"{self._name} cut the connection: {type(error).__name__}") from error
            raise ProviderTimedOutError(
                f"{self._name} was asked and gave no whole answer: {type(error).__name__}"
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
