"""The guard: a process that stops embedded services without users, in case the last user was killed.

There is one guard per folder. The process that opens the services starts the guard, which ends a few seconds after
the services. See docs/decisions/0132-a-guard-stops-services-without-users.md.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

from workers.services.instance import EmbeddedInstance
from workers.services.locks import try_lock, unlock

LOOK_S: Final = 1.0
"""Seconds between checks.

Services are stopped if two checks in a row found no user, so that a new user can still take them over.
"""


def main(folder: Path, lock: int) -> None:
    """Wait until no process uses the services of a folder, and stop them.

    Args:
        folder: the services' folder.
        lock: descriptor of the guard's lock, inherited from the process that started this one.

    Raises:
        EmbeddedServiceError: a server doesn't stop.
    """
    instance = EmbeddedInstance(folder)
    # The files aren't created here, because the folder may be about to be removed
    turn, users = (os.open(folder / name, os.O_RDWR | os.O_CLOEXEC) for name in ("turn.lock", "users.lock"))
    unused_looks = 0
    while True:
        time.sleep(LOOK_S)
        if not (_is_at(turn, folder / "turn.lock") and _is_at(users, folder / "users.lock")):
            return  # other services run in this folder now, and have a guard of their own
        if not try_lock(turn, exclusive=True):
            unused_looks = 0  # a process is beginning or ending its use
            continue
        is_unused = try_lock(users, exclusive=True)
        unused_looks = unused_looks + 1 if is_unused else 0
        if unused_looks > 1:
            instance.stop_servers()
            os.close(lock)  # closed while `turn.lock` is still held, so that the next user starts another guard
            return
        unlock(users)
        unlock(turn)


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the file at its path; otherwise the folder was removed or replaced."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
