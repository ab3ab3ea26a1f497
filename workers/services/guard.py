"""The process that stops embedded services which nobody uses: a last user that was killed has stopped nothing.

One per folder, started with the services by whoever opens them, and over a few seconds after them. See
docs/decisions/0132-a-guard-stops-services-without-users.md.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

from workers.services.instance import EmbeddedInstance
from workers.services.locks import try_lock, unlock

LOOK_S: Final = 1.0
"""How often it looks. Services without a user at two looks are stopped: who comes at once finds them."""


def main(folder: Path, lock: int) -> None:
    """Look until nobody uses the services of a folder, and stop them.

    Args:
        folder: of the services.
        lock: descriptor of the guard's lock, held by whoever started this process, and so by this one.

    Raises:
        EmbeddedServiceError: a server doesn't stop.
    """
    instance = EmbeddedInstance(folder)
    # not made anew: the folder may be about to be removed
    turn, users = (os.open(folder / name, os.O_RDWR | os.O_CLOEXEC) for name in ("turn.lock", "users.lock"))
    unused_looks = 0
    while True:
        time.sleep(LOOK_S)
        if not (_is_at(turn, folder / "turn.lock") and _is_at(users, folder / "users.lock")):
            return  # what runs there now has a guard of its own
        if not try_lock(turn, exclusive=True):
            unused_looks = 0  # somebody comes or leaves
            continue
        is_unused = try_lock(users, exclusive=True)
        unused_looks = unused_looks + 1 if is_unused else 0
        if unused_looks > 1:
            instance.stop_servers()
            os.close(lock)  # before this turn ends: whoever is next starts another guard
            return
        unlock(users)
        unlock(turn)


def _is_at(descriptor: int, path: Path) -> bool:
    """Say whether an open file still stands at its path; else the folder is gone, or another's with its own locks."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
