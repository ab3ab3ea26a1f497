"""Translation of Gemini's errors into ours, by status, finish reason or block reason.

Source: the API's error model (google.rpc.Status), google-genai 3.4.0's enums, public reports; read 2026-11-20.
"""

import random
import re
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from zoneinfo import ZoneInfo

from config.job_terms import MAX_EVIDENCE_CHARS
from pipelines.errors import (
    BrokenAnswerError,
    NoSuchModelError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    QuotaSpentError,
    RequestRejectedError,
    RequestTooLargeError,
    StageError,
    ThrottledError,
)
from pipelines.providers.gemini.requests import MORE_ANALYSIS_UNITS, Change
from pipelines.providers.gemini.wire import GenerateContentResponse
from pipelines.providers.reading import SaidError, documents_of, error_in
from pipelines.providers.remote import PASSING_STATUSES, UNNAMED_STATUS, Reply
from pipelines.providers.waits import (
    DEFAULT_RETRY_AFTER,
    LEAST_RETRY_AFTER,
    MAX_RETRY_AFTER,
    QUOTA_SPENT_RETRY_AFTER,
    retry_wait,
    with_wait,
)

QUOTA_ZONE = "America/Los_Angeles"
"""Time zone at whose midnight a day of Gemini's quota begins."""

POLICY_REASONS = frozenset(
    {"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT"}
    | {"PUP_LIMITED_DISABLED", "MODEL_ARMOR", "JAILBREAK", "ESCALATION"}
)
"""Finish reasons that stay the same when the request is sent again."""

RECITATION_REASONS = frozenset({"RECITATION", "IMAGE_RECITATION"})

_NAME = re.compile(r"[A-Z][A-Z_]{0,39}")


def refusal(reply: Reply, model: str, *, error: SaidError | None = None, now: datetime | None = None) -> StageError:
    """Return our error for an error answer, by its status; if that is 200, by the error in its body.

    Args:
        reply: the answer.
        model: the model that was asked.
        error: the error in the answer's body, if the caller has parsed it.
        now: an aware time; None for the present.
    """
    error = error or error_in(documents_of(reply.body)) or SaidError()
    status = (error.http_status or UNNAMED_STATUS) if reply.is_success else reply.status
    in_success = f" (in a {reply.status})" if reply.is_success else ""
    where = f"gemini {status}{f' {error.status}' if _NAME.fullmatch(error.status) else ''}{in_success}"
    told = _told(status, error, where, error.message[:MAX_EVIDENCE_CHARS] or reply.evidence, model)
    now = now or datetime.now(UTC)
    is_throttle = isinstance(told, ThrottledError)
    message = error.message or reply.evidence
    delay = error.retry_delay
    wait = retry_wait(reply.headers, message, delay, is_throttle=is_throttle, now=now)
    if is_throttle:
        wait = retry_after(error, wait, now)
    return with_wait(told, wait)


def _told(  # noqa: C901, PLR0911 - a table, one line each
    status: int, error: SaidError, where: str, evidence: str, model: str
) -> StageError:
    match status:
        case HTTPStatus.BAD_REQUEST:
            return _bad_request(error, where, evidence)
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return ProviderNotConfiguredError(
                f"{where}: the key isn't accepted; check GEMINI_API_KEY", evidence=evidence
            )
        case HTTPStatus.NOT_FOUND:
            return NoSuchModelError(
                f"{where}: there is no model {model} (any more); name another in DARKROOM_GEMINI_IMAGE_MODEL or "
                "DARKROOM_GEMINI_ANALYSIS_MODEL",
                evidence=evidence,
            )
        case HTTPStatus.PAYMENT_REQUIRED:
            return QuotaSpentError(
                f"{where}: the account is spent", retry_after=QUOTA_SPENT_RETRY_AFTER, evidence=evidence
            )
        case HTTPStatus.TOO_MANY_REQUESTS:
            return ThrottledError(f"{where}: too many requests", retry_after=DEFAULT_RETRY_AFTER, evidence=evidence)
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return RequestTooLargeError(f"{where}: the request is too large", evidence=evidence)
        case HTTPStatus.GATEWAY_TIMEOUT:
            return ProviderTimedOutError(f"{where}: it wasn't done in its own time", evidence=evidence)
        case status if status in PASSING_STATUSES:
            return ProviderUnavailableError(f"{where}: the request was given up on the way", evidence=evidence)
        case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return ProviderUnavailableError(f"{where}: it is out of order or overloaded", evidence=evidence)
        case status if status < HTTPStatus.BAD_REQUEST:
            return BrokenAnswerError(f"{where}: an answer of an unknown kind", evidence=evidence)
        case _:
            return RequestRejectedError(f"{where}: the request was rejected", evidence=evidence)


def _bad_request(error: SaidError, where: str, evidence: str) -> StageError:
    if error.detail("ErrorInfo").get("reason") == "API_KEY_INVALID":
        return ProviderNotConfiguredError(f"{where}: the key is none; check GEMINI_API_KEY", evidence=evidence)
    if error.status == "FAILED_PRECONDITION":
        return ProviderNotConfiguredError(
            f"{where}: the account may not use it here (billing, country)", evidence=evidence
        )
    return RequestRejectedError(f"{where}: the request was rejected", evidence=evidence)


def retry_after(error: SaidError, told: timedelta | None, now: datetime) -> timedelta:
    """Return how long to wait after a 429: as the answer says, or, if a day's quota is spent, until its midnight."""
    wait = DEFAULT_RETRY_AFTER if told is None else told
    violations = error.detail("QuotaFailure").get("violations")
    if any(map(_is_over_for_today, violations if isinstance(violations, list) else [])):
        local = now.astimezone(ZoneInfo(QUOTA_ZONE))
        midnight = (local + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        wait = max(wait, midnight - local)
    return min(max(wait, LEAST_RETRY_AFTER), MAX_RETRY_AFTER)


def _is_over_for_today(violation: object) -> bool:
    """Return whether a quota is spent until the end of its day: a daily quota, or the free tier's quota of zero."""
    if not isinstance(violation, dict):
        return False
    quota_id, value = str(violation.get("quotaId", "")), str(violation.get("quotaValue", "0"))
    return "PerDay" in quota_id or ("FreeTier" in quota_id and value == "0")  # JSON of an int64 omits a zero


def change_after(response: GenerateContentResponse) -> Change:
    """Return how to change a request before it is sent for a second and last time, after an unusable answer."""
    reason = response.candidate.finish_reason
    if reason in RECITATION_REASONS:
        return Change(seed=random.getrandbits(31))  # not a secret
    if reason == "CONTINUATION":
        return Change(continuation_token=response.candidate.continuation_token)
    if reason == "MAX_TOKENS":
        return Change(most_units=MORE_ANALYSIS_UNITS)
    return Change(is_firm=True)


def recited_again(response: GenerateContentResponse) -> PolicyRefusedError | None:
    """Return the policy refusal if the second answer is a recitation too.

    A third call with another seed wouldn't help.
    """
    category = _name(response.candidate.finish_reason)
    if category not in RECITATION_REASONS:
        return None
    return PolicyRefusedError(
        f"gemini made no picture with another seed either: {category}",
        category=category,
        evidence=response.candidate.finish_message,
    )


def no_picture(response: GenerateContentResponse) -> StageError:
    """Return the error for an answer without a picture."""
    if refused := policy_refusal(response):
        return refused
    reason = _name(response.candidate.finish_reason)
    text = " ".join(part.text for part in response.parts if part.text and not part.is_thought)
    link = next((part.link for part in response.parts if part.link), None)
    said = response.candidate.finish_message or text or link or None
    if reason == "LANGUAGE":
        return RequestRejectedError("gemini doesn't take prompts in this language", evidence=said)
    words = "text and no picture" if text else "a link to a file and no picture" if link else "no picture"
    return BrokenAnswerError(f"gemini answered with {words} (finish reason {reason})", evidence=said)


def policy_refusal(response: GenerateContentResponse) -> PolicyRefusedError | None:
    """Return the policy refusal that an answer contains, if any; an unknown block reason counts as one."""
    if response.block_reason:
        category = _name(response.block_reason)
        return PolicyRefusedError(f"gemini refused the request by policy: {category}", category=category)
    for candidate in response.candidates:
        if candidate.finish_reason in POLICY_REASONS:
            return PolicyRefusedError(
                f"gemini refused the picture by policy: {candidate.finish_reason}",
                category=candidate.finish_reason,
                evidence=candidate.finish_message,
            )
    return None


def _name(reason: str | None) -> str:
    """Return a reason as a word that may be stored in a row: the text comes from outside, and new reasons appear."""
    return reason if reason and _NAME.fullmatch(reason) else "UNKNOWN" if reason else "MISSING"
