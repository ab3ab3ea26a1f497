"""The delay before the retry of a failed attempt."""

import random
from datetime import timedelta

BASE_S = 1.0
"""The delay before a first retry is random, up to this many seconds."""

CAP_S = 300.0
"""The longest delay before any retry, in seconds."""


def retry_delay(attempt: int) -> timedelta:
    """Return how long to wait after a failed attempt: a random part of a time that doubles with each (full jitter).

    Full jitter spreads jobs that failed at the same moment best (AWS
    Architecture Blog, "Exponential Backoff And Jitter", 2015).

    Args:
        attempt: the number of the attempt that failed, from 1.
    """
    ceiling_s = min(CAP_S, BASE_S * 2 ** min(attempt - 1, 16))
    return timedelta(seconds=random.uniform(0, ceiling_s))  # noqa: S311 - jitter, not a secret
