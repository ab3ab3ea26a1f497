"""The program `darkroom` with the provider of `slow_worker`: python -m ... up; HOST_NAME names its host."""

import contextlib
import ctypes
import os
import socket
import sys

from tests.support.scripted_provider import stand_in
from tests.support.slow_worker import OPENS
from workers.cli.app import main
from workers.process.supervisor import WorkerProcesses

CLONE_NEWUTS = 0x04000000

if __name__ == "__main__":
    # Where it isn't allowed, all hosts of a test have this machine's name
    if (name := os.environ.get("HOST_NAME")) and ctypes.CDLL(None).unshare(CLONE_NEWUTS) == 0:
        with contextlib.suppress(OSError):
            socket.sethostname(name)
    WorkerProcesses.ENTRY_POINT = "tests.support.slow_worker:main"
    stand_in(OPENS)
    sys.exit(main())
