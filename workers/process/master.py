"""A worker's master: dramatiq's command line, in a process that ends with its supervisor, which starts it."""

import gc
import logging
import os
import sys

from dramatiq.cli import main as run_dramatiq

from workers.process.supervised import SUPERVISOR_FD, supervised


def main() -> int:
    """Run dramatiq; the worker that it forks ends with the supervisor and with this process."""
    master, descriptor = os.getpid(), int(os.environ[SUPERVISOR_FD])
    supervised.watch(descriptor)
    ends_with_us, held = os.pipe()

    def watch_in_worker() -> None:
        if os.getppid() == master:  # else it is a fork of the worker's own
            os.close(held)
            supervised.watch(descriptor, ends_with_us)

    os.register_at_fork(after_in_child=watch_in_worker)
    gc.disable()  # until the worker has started: what it imports is no garbage
    # what it says of its worker's end, the supervisor says in our words
    logging.getLogger("dramatiq.MainProcess").setLevel(logging.CRITICAL + 1)
    code = int(run_dramatiq())  # type: ignore[no-untyped-call]  # dramatiq left it untyped
    gc.freeze()  # the interpreter's own end needn't look through it all
    return code


if __name__ == "__main__":
    sys.exit(main())
