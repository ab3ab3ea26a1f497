"""Fixtures: folders with data that is made once, and processes that share them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.support.patience import HANGS_AFTER_S
from workers.services.instance import EmbeddedInstance

REPOSITORY = Path(__file__).parents[3]
HOLDER = REPOSITORY / "tests/support/holder.py"
FAST = {"fsync": "off"}


@dataclass
class Holder:
    """A process that holds an instance; `ready` waits until it does."""

    process: subprocess.Popen[str]
    postgres_pid: int = 0
    redis_pid: int = 0
    children: list[int] = field(default_factory=list)

    def ready(self) -> "Holder":
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("ready"), f"{line!r}, exit {self.process.wait(HANGS_AFTER_S)}"
        _, postgres, redis, children = line.split()
        self.postgres_pid, self.redis_pid = int(postgres), int(redis)
        self.children = [int(child) for child in children.split(",") if child != "none"]
        return self

    def leave(self) -> None:
        self.process.communicate("leave\n", timeout=HANGS_AFTER_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=HANGS_AFTER_S)


class Holders:
    """Starts holders, and leaves nothing of them behind."""

    def __init__(self) -> None:
        self._started: list[Holder] = []

    def start(self, folder: Path, mode: str = "plain", prefix: Sequence[str] = ()) -> Holder:
        environ = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(
            [*prefix, sys.executable, str(HOLDER), str(folder), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environ,
            start_new_session=True,
        )
        self._started.append(Holder(process))
        return self._started[-1]

    def end(self) -> None:
        for holder in self._started:
            if holder.process.poll() is None:
                holder.kill()
            for pid in holder.children:
                if psutil.pid_exists(pid):
                    psutil.Process(pid).kill()


@pytest.fixture
def holders() -> Iterator[Holders]:
    started = Holders()
    yield started
    started.end()


@pytest.fixture(scope="session")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "embedded"
    with EmbeddedInstance(folder, postgres_settings=FAST):
        pass
    return folder


@pytest.fixture
def folder(_made: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder of an instance with finished data, in a path with a space; whatever runs in it at the end is stopped."""
    folder = tmp_path / "a home" / "embedded"
    folder.mkdir(parents=True, mode=0o700)
    shutil.copytree(_made / "postgres", folder / "postgres")
    yield folder
    stop_leftovers(folder)


def stop_leftovers(folder: Path) -> None:
    instance = EmbeddedInstance(folder)
    for server in (instance.redis, instance.postgres):
        if folder.exists() and server.is_running():
            server.stop(immediately=True)
