"""Every way in which a stage can fail, as types: what the runner decides on."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pipelines.providers.calls import PreparedCall, Usage


class StageError(Exception):
    """A stage did not give its output.

    The message is ours and fit for a row's `errorMessage`: what was tried, on
    which thing, what came back. `evidence` is what came from outside (a
    provider's body, a decoder's words): it goes, filtered and cut, to
    error_logs only.

    A provider says more: `was_sent` is False if its call was never
    sent, `usage` is what a refused answer says that it used, and `again`
    prepares the one call, changed, that may do better at once.
    """

    was_sent: bool = True
    usage: Usage | None = None
    again: Callable[[], Awaitable[PreparedCall[Any]]] | None = None

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message)
        self.evidence = evidence


class PermanentError(StageError):
    """Trying again can't help: the job ends, refunded."""


class BadImageError(PermanentError):
    """The picture is refused when it is read: the message names the limit and the value found."""


class CropTooSmallError(PermanentError):
    """A suggested crop would leave too little of the picture."""


class TransparentImageError(BadImageError):
    """The picture is transparent all over."""


class MissingObjectError(PermanentError):
    """An object that a row names is not in storage: the message names the key."""


class NotYoursError(PermanentError):
    """The job's owner may not use this picture, pipeline or key."""


class InvalidOptionsError(PermanentError):
    """A pipeline's JSON or a job's own fields break their rules: the message has the JSON path and the reason."""


class UnknownModelError(PermanentError):
    """A model that a pipeline or an operator names has no price here, or no provider that is configured makes it.

    Nobody else is asked in its place: the message names it, and what to do.
    """


class ProviderNotConfiguredError(PermanentError):
    """No provider here can do this: a key is missing, or the local engine is asked for what it can't do."""


class NoSuchModelError(ProviderNotConfiguredError):
    """The provider doesn't know the model that it was asked for (any more)."""


class RequestRejectedError(PermanentError):
    """The provider understood the request and rejected it."""


class RequestTooLargeError(RequestRejectedError):
    """The provider takes no request of this length."""


class PolicyRefusedError(PermanentError):
    """The provider refused by policy: never tried again."""

    def __init__(self, message: str, *, category: str, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.category = category


class TransientError(StageError):
    """Trying again may help: an attempt is used, with backoff.

    `is_paid` says whether a provider may have charged for what failed
    (answered, timed out, or cut off after sending). `retry_after` is what the
    provider asked for: the next attempt isn't made sooner.
    """

    retry_after: timedelta | None = None

    def __init__(self, message: str, *, is_paid: bool = False, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.is_paid = is_paid


class ProviderUnavailableError(TransientError):
    """Refused with 500 or 503, or never reached: nothing was paid."""


class ProviderTimedOutError(TransientError):
    """Sent, and no whole answer came: it may have been paid."""

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message, is_paid=True, evidence=evidence)


class BrokenAnswerError(TransientError):
    """An answer came and holds no usable picture or analysis: paid."""

    def __init__(self, message: str, *, evidence: str | None = None) -> None:
        super().__init__(message, is_paid=True, evidence=evidence)


class MissedRequestError(BrokenAnswerError):
    """A picture came, and it isn't what the request asked this model for: paid.

    Each kind is a type of its own: a second miss of the same kind by the same model isn't followed by a third call.
    """


class WrongSizeError(MissedRequestError):
    """The picture is much smaller than the size asked for."""


class WrongShapeError(MissedRequestError):
    """The picture has another ratio of width to height than the one asked for."""


class OneColourError(MissedRequestError):
    """The picture is one colour, which neither the input nor the words ask for."""


class AnswerTooLargeError(MissedRequestError):
    """The answer is over the limits of what is taken from a provider."""


MISSES = (WrongSizeError, WrongShapeError, OneColourError, AnswerTooLargeError)
"""The kinds of misses; a test compares."""


class StorageUnavailableError(TransientError):
    """The object storage didn't answer or refused for reasons of its own."""


class PixelChildLostError(TransientError):
    """A child process ended in the middle of pixel work for a reason that isn't the picture's."""


class ThrottledError(StageError):
    """Not now: the job waits (a snooze) and uses no attempt."""

    def __init__(self, message: str, *, retry_after: timedelta, evidence: str | None = None) -> None:
        super().__init__(message, evidence=evidence)
        self.retry_after = retry_after


class QuotaSpentError(ThrottledError):
    """The provider takes no call until somebody pays or its quota is renewed: everybody's calls are held back."""
