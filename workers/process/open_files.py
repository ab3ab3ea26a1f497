"""Check of the limit of open files before workers start: a worker that reaches it fails one job after another."""

import resource
from typing import Final

from config.logger import EventLogger

log = EventLogger(__name__)

LEAST: Final = 64
"""Files that a worker process opens for itself: connections, pipes of pixel children, event loop, modules."""

PER_LANE: Final = 4
"""Files that a job may hold at once: a provider's socket, a storage's, a picture's file, and one in reserve."""


class OpenFilesError(Exception):
    """Raised when this process may open too few files to run a worker."""


def require_open_files(lanes: int) -> None:
    """If the limit of open files is too low, raise it as far as this process may; if it is too low still, log that.

    Args:
        lanes: jobs at once in one worker process; processes that are started later inherit the limit.

    Raises:
        OpenFilesError: the limit is too low for any worker.
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
