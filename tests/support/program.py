"""The program `darkroom` as a process of its own, with its output."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.patience import HANGS_AFTER_S

DARKROOM = str(Path(sys.executable).with_name("darkroom"))


class Running:
    """A process and the file that its lines go to."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path) -> None:
        self.process = process
        self._path = path

    @property
    def said(self) -> str:
        return self._path.read_text()

    def says(self, words: str) -> str:
        """Wait until it has said some words; return all that it has said."""
        until_s = time.monotonic() + HANGS_AFTER_S
        while words not in "\n" + self.said:  # a line may be the first: logs come by another way than `ready`
            assert time.monotonic() < until_s, f"{words!r} isn't said, but:\n{self.said}"
            time.sleep(0.05)
        return self.said

    def ends(self) -> int:
        """Wait until it has ended; return its exit code."""
        return self.process.wait(HANGS_AFTER_S)


@contextlib.contextmanager
def darkroom(
    *arguments: str, environment: dict[str, str], folder: Path, before: Callable[[], Any] | None = None
) -> Iterator[Running]:
    """Run a command; it is stopped at the end, if it hasn't ended. `before` runs in its process before it begins."""
    path = folder / f"{'-'.join(arguments)}-{time.monotonic_ns()}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            [DARKROOM, *arguments],
            env=os.environ | {"LOG_FORMAT": "json", "DARKROOM_HOME": str(folder)} | environment,
            stdout=log,
            stderr=log,
            preexec_fn=before,  # noqa: PLW1509 - tests start one process at a time
        )
    try:
        yield Running(process, path)
    finally:
        process.terminate()
        try:
            process.wait(HANGS_AFTER_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
