"""The errors of stages. Their types decide whether a job is retried, snoozed, or ended."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pipelines.providers.calls import PreparedCall, Usage


class StageError(Exception):
    """Raised when a stage couldn't make its output.

    The message is ours and fit for a row's `errorMessage`: what was tried, on which thing, what came back. `evidence`
    is text from outside (a provider's answer, a decoder's message): it is filtered and cut, and written only to
    error_logs.

    A provider's errors have more: `was_sent` is False if the call was never sent; `usage` is what the call used, as the
    provider's answer says; and `again` prepares one further, changed call, which may succeed at once.
    """

    was_sent: bool = True
    usage: Usage | None = None
    again: Callable[[], Awaitable[PreparedCall[Any]]] | None = None

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence


class PermanentError(StageError):
    """Raised when another attempt can't succeed: the job ends and is refunded."""


class BadImageError(PermanentError):
    """Raised when a picture can't be accepted or decoded; the message names the limit and the value found."""


class CropTooSmallError(PermanentError):
    """Raised when a suggested crop would leave too little of the picture."""


class TransparentImageError(BadImageError):
    """Raised when every pixel of the picture is transparent."""


class MissingObjectError(PermanentError):
    """Raised when an object that a row names is not in storage; the message names the key."""


class NotYoursError(PermanentError):
    """Raised when the job's owner may not use a picture, pipeline or key."""


class InvalidOptionsError(PermanentError):
    """Raised when a pipeline's JSON, or a job's own field, breaks a rule; the message has path and reason."""


class UnknownModelError(PermanentError):
    """Raised when a model that a pipeline or an operator names has no price, or belongs to no configured provider.

    No other model is used in its place. The message names the model, and says what to do.
    """


class ProviderNotConfiguredError(PermanentError):
    """Raised when no configured provider can do a call: a key is missing, or only the local engine is configured."""


class NoSuchModelError(ProviderNotConfiguredError):
    """Raised when the provider doesn't know, or no longer knows, the model."""


class RequestRejectedError(PermanentError):
    """Raised when the provider understood the request and rejected it."""


class RequestTooLargeError(RequestRejectedError):
    """Raised when the request is longer than the provider accepts."""


class PolicyRefusedError(PermanentError):
    """Raised when the provider refused by its policy. Such a request is never sent again."""

    def __init__(self, message: str, *, category: str, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.category = category


class TransientError(StageError):
    """Raised when another attempt may succeed: this attempt counts, and the next one follows after a backoff.

    `is_paid` says whether a provider may have charged for the failed call
    (answered, timed out, or cut off after it was sent). `retry_after` is the wait
    that the provider asked for: the next attempt isn't made sooner.
    """

    retry_after: timedelta | None = None

    def __init__(self, message: str, *, is_paid: bool = False, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.is_paid = is_paid


class ProviderUnavailableError(TransientError):
    """Raised when nothing was paid, because the provider answered with a status such as 503, or wasn't reached."""


class ProviderTimedOutError(TransientError):
    """Raised when a request was sent and no complete answer came. The call may have been paid."""

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message, is_paid=True, evidence=evidence)


class BrokenAnswerError(TransientError):
    """Raised when an answer contains no usable picture or analysis. The call was paid."""

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message, is_paid=True, evidence=evidence)


class MissedRequestError(BrokenAnswerError):
    """Raised when the picture that came isn't what the model was asked for. The call was paid.

    Each way to miss the request has an error type of its own, because after a second miss of the same type by the same
    model, no third call is made.
    """


class WrongSizeError(MissedRequestError):
    """Raised when the picture that came is much smaller than the size asked for."""


class WrongShapeError(MissedRequestError):
    """Raised when the ratio of width to height of the picture that came isn't the one asked for."""


class OneColourError(MissedRequestError):
    """Raised when the picture that came is of one colour, although neither the input nor the prompt asks for that."""


class AnswerTooLargeError(MissedRequestError):
    """Raised when the answer exceeds the limits for answers of providers."""


MISSES = (WrongSizeError, WrongShapeError, OneColourError, AnswerTooLargeError)
"""All kinds of misses; a test checks that none is left out."""


class StorageUnavailableError(TransientError):
    """Raised when the object storage doesn't answer, or refuses, and the request isn't the reason."""


class PixelChildLostError(TransientError):
    """Raised when a pixel child ended during its work, and the picture isn't the reason."""


class ThrottledError(StageError):
    """Raised when a call can't be made now: the job is snoozed, and the attempt isn't counted."""

    def __init__(self, message: str, *, retry_after: timedelta, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.retry_after = retry_after


class QuotaSpentError(ThrottledError):
    """Raised when the provider accepts no call until its account is paid or its quota is renewed; all calls wait."""
