"""The master process of a worker: dramatiq's command line, which the supervisor starts, and which ends with it."""

import gc
import logging
import os
import sys

from dramatiq.cli import main as run_dramatiq

from workers.process.supervised import SUPERVISOR_FD, supervised


def main() -> int:
    """Run dramatiq and return its exit code.

    The worker that it forks ends with the supervisor and with this process.
    """
    master, descriptor = os.getpid(), int(os.environ[SUPERVISOR_FD])
    supervised.watch(descriptor)
    ends_with_us, held = os.pipe()

    def watch_in_worker() -> None:
        if os.getppid() == master:  # otherwise it is a fork of the worker's own
            os.close(held)
            supervised.watch(descriptor, ends_with_us)

    os.register_at_fork(after_in_child=watch_in_worker)
    gc.disable()  # imported modules aren't garbage; the worker enables collection for itself, and the master only waits
    # dramatiq's messages about its worker's end are suppressed: the supervisor logs it in our words
    logging.getLogger("dramatiq.MainProcess").setLevel(logging.CRITICAL + 1)
    code = int(run_dramatiq())  # type: ignore[no-untyped-call]  # dramatiq left it untyped
    gc.freeze()  # so that the interpreter's end doesn't examine all objects
    return code


if __name__ == "__main__":
    sys.exit(main())
