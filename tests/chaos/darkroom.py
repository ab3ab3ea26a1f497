"""`darkroom worker` and `darkroom scheduler` with a chaos run's faults: `python -m tests.chaos.darkroom worker`."""

import sys

from tests.chaos import registering, seams

if __name__ == "__main__":
    registering.register()
    from workers.cli.app import main
    from workers.process.supervisor import WorkerProcesses

    seams.install()
    WorkerProcesses.ENTRY_POINT = "tests.chaos.worker:main"
    sys.exit(main())
