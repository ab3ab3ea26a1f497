"""Results in a folder of the caller's: tried before anything is paid, and written under names that are free."""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Final

from workers.cli.failures import CommandUsageError

PROBE_BYTES: Final = 1_048_576
"""What is written to try a folder: about as much as a small result."""


OUT_WITHOUT_WAIT: Final = "--out needs the results; leave out --no-wait, or fetch them later by `darkroom jobs save`"


def require_writable(folder: Path) -> None:
    """Make the folder of --out, and see that a file can be written into it; none is left behind.

    Raises:
        CommandUsageError: it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # some file systems refuse what doesn't fit only now
    except (FileExistsError, NotADirectoryError) as error:
        raise CommandUsageError(f"--out {folder} is not a directory; name one, it is made if it is missing") from error
    except OSError as error:
        raise CommandUsageError(
            f"--out {folder} can't be written to: {error.strerror}; name a directory that can, nothing was submitted"
        ) from error


def write_new(folder: Path, stem: str, data: bytes) -> Path:
    """Write `<stem>.jpg` into a folder, with a number added until the name is free; return its path.

    Raises:
        OSError: the folder can't be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder / (f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg")
        try:
            file = path.open("xb")  # made by us or not at all: another run may write here, too
        except FileExistsError:
            continue
        with file:
            try:
                file.write(data)
                file.flush()
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return path
    raise AssertionError("unreachable: numbers don't end")
