"""Results in the folder of --out, which is tested before anything is paid; files get names that no other file has."""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Final

from workers.cli.failures import CommandUsageError

PROBE_BYTES: Final = 1_048_576
"""Size of the file by which a folder is tested: about that of a small result."""


OUT_WITHOUT_WAIT: Final = "--out needs the results; leave out --no-wait, or fetch them later by `darkroom jobs save`"


def require_writable(folder: Path) -> None:
    """Create the folder of --out, and check that a file can be written into it; the file is deleted again.

    Raises:
        CommandUsageError: it can't be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())  # some file systems report a full disk only here
    except (FileExistsError, NotADirectoryError) as error:
        raise CommandUsageError(f"--out {folder} is not a directory; name one, it is made if it is missing") from error
    except OSError as error:
        raise CommandUsageError(
            f"--out {folder} can't be written to: {error.strerror}; name a directory that can, nothing was submitted"
        ) from error


def write_new(folder: Path, stem: str, data: bytes) -> Path:
    """Write `<stem>.jpg` into a folder, with a number added if the name is taken; return the file's path.

    Raises:
        OSError: the folder can't be created, or the file can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = folder / (f"{stem}.jpg" if number == 1 else f"{stem}-{number}.jpg")
        try:
            file = path.open("xb")  # fails if the file exists: another process may write here, too
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
