"""Stage CALLING: send a job's body to its HTTP endpoint, and take the endpoint's JSON as the job's result."""

import asyncio
import json
import math
from contextlib import suppress
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpcore

from config.job_terms import MAX_EVIDENCE_CHARS
from config.json_text import json_text
from pipelines.endpoint import EndpointAnswer
from pipelines.errors import InvalidOptionsError, ThrottledError
from pipelines.job import Job
from pipelines.providers.waits import DEFAULT_RETRY_AFTER, retry_wait
from pipelines.public_client import COLUMN, FetchFailedError, FetchRefusedError, header, in_words_of, is_packed
from pipelines.stage_context import StageContext

MAX_BODY_BYTES: Final = 1_000_000
"""The most bytes of a request's body."""

MAX_ANSWER_BYTES: Final = 1_000_000
"""The most bytes of an answer. It is stored in the job's row, together with the answers of other jobs."""

MAX_DEPTH: Final = 100
"""How deep lists and objects of an answer may be nested. Python and PostgreSQL read JSON by recursion."""

MAX_KEY_CHARS: Final = 200
"""How long the value of Idempotency-Key may be; endpoints commonly accept 255 characters."""

EVIDENCE_S: Final = 1.0
"""How long, in seconds, the body of a refusal is read for error_logs."""

_PASSING: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY})
"""Status codes below 500 after which another try may succeed.

409 says that a request with the same Idempotency-Key is still being worked on, as after a worker died in its call
(draft-ietf-httpapi-idempotency-key-header, section 2.6; 2026-11).
"""

_EMPTY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT})


async def call(context: StageContext) -> EndpointAnswer:
    """Send the job's body to its endpoint by POST and return the answer.

    How long the endpoint may take is the stage's deadline.

    Raises:
        InvalidOptionsError: the job names no endpoint, or its body can't be sent.
        FetchRefusedError: the URL or the host's address is refused, or another try would get the same answer.
        ThrottledError: the endpoint asks to wait.
        FetchFailedError: the endpoint wasn't reached, broke off, or answered with a temporary error.
    """
    request, client = context.job.call, context.fetcher.client
    if request is None or not request.url:
        raise InvalidOptionsError("the job names no endpoint to call")
    body = _body(request.body)
    with in_words_of("the endpoint's URL"):
        url = client.checked(request.url)
    headers = {
        "Accept": "application/json",
        "Content-Type": "application/json",
        "Idempotency-Key": idempotency_key(context.job),
    }
    async with context.calling():
        with in_words_of(f"endpoint {url.host}"):
            async with client.request("POST", url, headers, body=body, read_s=None) as answer:
                if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    await _refuse(answer)
                return EndpointAnswer(await _answer(answer), answer.status)


def idempotency_key(job: Job) -> str:
    """Return the value of the header Idempotency-Key: ASCII, the same in each attempt of a job.

    It is the job's type and its id, percent-encoded; of a long id, its hash.
    """
    key = f"{job.job_type}/{quote(job.id, safe='')}"
    return key if len(key) <= MAX_KEY_CHARS else f"{job.job_type}/sha256-{sha256(job.id.encode()).hexdigest()}"


def _body(value: Any) -> bytes:
    try:
        body = json_text(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOptionsError("the job's body isn't JSON that can be sent") from error
    if len(body) > MAX_BODY_BYTES:
        raise InvalidOptionsError(f"the job's body has {len(body):,} bytes; the limit is {MAX_BODY_BYTES:,}")
    return body


async def _refuse(answer: httpcore.Response) -> None:
    """Raise the error that an answer without success means."""
    status, words = answer.status, f"{COLUMN} answered with status {answer.status}"
    headers: dict[str, str] = {}
    for name, text in answer.headers:
        lower = name.decode("latin-1").lower()
        headers[lower] = ", ".join(filter(None, (headers.get(lower), text.decode("latin-1"))))
    is_throttle = status == HTTPStatus.TOO_MANY_REQUESTS
    wait = retry_wait(headers, "", is_throttle=is_throttle)
    if is_throttle or (status == HTTPStatus.SERVICE_UNAVAILABLE and wait is not None):
        raise ThrottledError(words, retry_after=DEFAULT_RETRY_AFTER if wait is None else wait)
    if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error = FetchFailedError(words, evidence=await _evidence(answer))
        error.retry_after = wait
        raise error
    is_redirect = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    raise FetchRefusedError(
        words + ", a redirect, which isn't followed" * is_redirect, evidence=await _evidence(answer)
    )


async def _evidence(answer: httpcore.Response) -> str | None:
    """Return the beginning of an answer's body, as far as it comes soon; None if it is empty."""
    data = bytearray()
    with suppress(TimeoutError, httpcore.NetworkError, httpcore.ProtocolError):
        async with asyncio.timeout(EVIDENCE_S):
            async for piece in answer.aiter_stream():
                data += piece
                if len(data) >= MAX_EVIDENCE_CHARS:
                    break
    return data[:MAX_EVIDENCE_CHARS].decode(errors="replace") or None


async def _answer(answer: httpcore.Response) -> Any:
    """Return the JSON of a successful answer, made of JSON's own types that PostgreSQL can store."""
    if answer.status in _EMPTY:
        return None
    if is_packed(answer):
        raise FetchRefusedError(f"{COLUMN} packed its answer, though a plain one was asked for")
    length = header(answer, b"content-length")
    if length.isdecimal() and int(length[:20]) > MAX_ANSWER_BYTES:
        raise FetchRefusedError(f"{COLUMN} answered with {int(length[:20]):,} bytes; the limit is {MAX_ANSWER_BYTES:,}")
    data = bytearray()
    async for piece in answer.aiter_stream():
        data += piece
        if len(data) > MAX_ANSWER_BYTES:
            raise FetchRefusedError(f"{COLUMN} answered with more than {MAX_ANSWER_BYTES:,} bytes, the limit")
    evidence = data[:MAX_EVIDENCE_CHARS].decode(errors="replace")
    try:
        found = json.loads(data.decode("utf-8-sig"), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise FetchRefusedError(f"{COLUMN} answered with what isn't JSON", evidence=evidence) from error
    _require_storable(found, evidence)
    return found


def _finite(text: str) -> float:
    """Return a number; JSON has no infinite ones.

    Raises:
        ValueError: it is NaN, or infinite.
    """
    if not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _require_storable(found: Any, evidence: str) -> None:
    """Check that PostgreSQL can store an answer: texts without NUL and halves of characters, and not too deep."""
    level, depth = [found], 0
    while level:
        if depth > MAX_DEPTH:
            raise FetchRefusedError(f"{COLUMN} answered with JSON of more than {MAX_DEPTH} levels", evidence=evidence)
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                below += [*one, *one.values()]
            elif isinstance(one, list):
                below += one
            elif isinstance(one, str) and not _is_storable(one):
                raise FetchRefusedError(f"{COLUMN} answered with characters that can't be stored", evidence=evidence)
        level, depth = below, depth + 1


def _is_storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return "\0" not in text
