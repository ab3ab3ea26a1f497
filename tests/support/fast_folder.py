"""Where the data of servers that may lose everything lies while tests run."""

import shutil
from pathlib import Path
from typing import Final

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folders made in it have names that nobody can guess
_MEMORY_NEEDED: Final = 6 << 30
"""Bytes that must be free there: each of six processes keeps up to 1 GiB of databases and log."""


def parent_of_data() -> str:
    """Return the folder in which to make one for a server's data: in memory where there is room.

    Copying a database there takes half of the time, and no disk is waited for. Its path is short, because a socket's
    path may have little more than a hundred bytes.
    """
    has_room = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_NEEDED
    return str(_MEMORY) if has_room else "/tmp"  # noqa: S108 - as above
