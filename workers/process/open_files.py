"""The limit of open files: a worker that meets it fails its jobs one by one, so it is looked at before the start."""

import resource
from typing import Final

import structlog

log = structlog.get_logger(__name__)

LEAST: Final = 64
"""What a worker process opens by itself: connections, pipes of its pixel children, the event loop and its modules."""

PER_LANE: Final = 4
"""What a job may hold at once: a provider's socket, a storage's, a picture's file and one to spare."""


class OpenFilesError(Exception):
    """This process may open too few files to run a worker."""


def require_open_files(lanes: int) -> None:
    """Raise the limit as far as this process may where it is too low; say so where that isn't enough.

    Args:
        lanes: jobs at once in one worker process; those that are started later inherit the limit.

    Raises:
        OpenFilesError: no worker can run with so few.
    """
    wanted = LEAST + PER_LANE * lanes
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < LEAST:
        raise OpenFilesError(
            f"at most {allowed} files may be open here, and a worker needs {LEAST}, with {lanes} lanes {wanted}: "
            f"raise the limit, such as with `ulimit -n {wanted}`"
        )
    if allowed < wanted:
        log.warning("open_files_scarce", limit=allowed, wanted=wanted)
