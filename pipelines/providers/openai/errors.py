"""Translation of an OpenAI-compatible images API's errors into ours, by status, code and type.

Source: OpenAI's API reference and error guide, public reports of compatible servers; read 2026-11.
"""

from http import HTTPStatus

from config.job_terms import MAX_EVIDENCE_CHARS
from pipelines.errors import (
    NoSuchModelError,
    PolicyRefusedError,
    ProviderNotConfiguredError,
    ProviderTimedOutError,
    ProviderUnavailableError,
    QuotaSpentError,
    RequestRejectedError,
    StageError,
    ThrottledError,
)
from pipelines.providers.reading import SaidError, documents_of, error_in
from pipelines.providers.remote import PASSING_STATUSES, UNNAMED_STATUS, Reply
from pipelines.providers.waits import DEFAULT_RETRY_AFTER, QUOTA_SPENT_RETRY_AFTER, retry_wait, with_wait

POLICY_CODES = frozenset({"moderation_blocked", "content_policy_violation"})
POLICY_TYPE = "image_generation_user_error"
"""Type of a refusal by the safety system.

An error of this type counts as such a refusal even without a code. If it has a code, the code decides.
"""

SPENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


def refusal(reply: Reply, *, error: SaidError | None = None) -> StageError:
    """Return our error for an error answer, by its status; if that is 200, by the error in its body.

    Args:
        reply: the answer.
        error: the error in the answer's body, if the caller has parsed it.
    """
    error = error or error_in(documents_of(reply.body)) or SaidError()
    status = (error.http_status or UNNAMED_STATUS) if reply.is_success else reply.status
    where = f"openai {status}{f' (in a {reply.status})' if reply.is_success else ''}"
    told = _told(status, error, where, (error.message or reply.evidence)[:MAX_EVIDENCE_CHARS])
    if isinstance(told, QuotaSpentError):
        return told
    message, delay = error.message or reply.evidence, error.retry_delay
    return with_wait(told, retry_wait(reply.headers, message, delay, is_throttle=isinstance(told, ThrottledError)))


def _told(  # noqa: PLR0911 - a table, one line each
    status: int, error: SaidError, where: str, evidence: str
) -> StageError:
    if error.code in POLICY_CODES or (error.kind == POLICY_TYPE and not error.code):
        category = error.code or error.kind
        return PolicyRefusedError(
            f"openai refused the request by policy: {category}", category=category, evidence=evidence
        )
    if error.code in SPENT_CODES or status == HTTPStatus.PAYMENT_REQUIRED:
        return QuotaSpentError(f"{where}: the account is spent", retry_after=QUOTA_SPENT_RETRY_AFTER, evidence=evidence)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return ProviderNotConfiguredError(
            f"{where}: the key isn't accepted, or may not use this model", evidence=evidence
        )
    if status == HTTPStatus.NOT_FOUND:
        return NoSuchModelError(
            f"{where}: there is no such model or address; check DARKROOM_OPENAI_IMAGE_MODEL, OPENAI_BASE_URL",
            evidence=evidence,
        )
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return ThrottledError(f"{where}: too many requests", retry_after=DEFAULT_RETRY_AFTER, evidence=evidence)
    if status == HTTPStatus.GATEWAY_TIMEOUT:
        return ProviderTimedOutError(f"{where}: it wasn't done in its own time", evidence=evidence)
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING_STATUSES:
        return ProviderUnavailableError(f"{where}: it is out of order or overloaded", evidence=evidence)
    return RequestRejectedError(f"{where}: the request was rejected", evidence=evidence)
