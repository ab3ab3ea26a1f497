"""A process that uses embedded services as a command does; a test controls it by lines on its standard input."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from workers.services.instance import EmbeddedInstance


def main() -> None:
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with EmbeddedInstance(folder, postgres_settings={"fsync": "off"}) as instance:
        children = "none"
        if mode == "with_children":
            # a child made by exec and one made by fork, both of which outlive us
            child = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL).pid
            if (forked := os.fork()) == 0:
                os.close(1)
                time.sleep(60)
                os._exit(0)
            children = f"{child},{forked}"
        sys.stdout.write(f"ready {instance.postgres.pid()} {instance.redis.pid()} {children}\n")
        sys.stdout.flush()
        sys.stdin.readline()
    os._exit(0)  # past the child's ResourceWarning


if __name__ == "__main__":
    main()
