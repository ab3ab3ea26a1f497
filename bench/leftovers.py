"""Search for processes left over by a `darkroom up` that is interrupted during its start, by SIGTERM and then SIGKILL.

Each start has a temporary DARKROOM_HOME with embedded services, so all processes that it starts can be told from
others: dramatiq's masters, workers, pixel children, PostgreSQL, Redis and their guard. Ten seconds after the
supervisor's end they are searched for, by session, by a variable in their environment, by the folder on their command
line, and by the locks of the servers.

    python -m bench.leftovers --starts 100 --seed 7
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

import psutil

from workers.services.instance import EmbeddedInstance

DARKROOM: Final = str(Path(sys.executable).with_name("darkroom"))
MARK: Final = "LEFTOVER_MARK"
AT_MOST_S: Final = 10.0
BEYOND_READY: Final = 1.2
"""Interrupts are spread over this many times the duration of the first start, so that some come after it."""

LONGEST_STOP_S: Final = 3.0
READY_S: Final = 180.0


@dataclass
class Start:
    """One start: when it was interrupted, and the processes that it had started."""

    number: int
    mark: str
    home: Path
    moments: str = ""
    ended_s: float = 0.0
    seen: set[psutil.Process] = field(default_factory=set)

    def run(self, starting_s: float, stopping_s: float) -> None:
        """Start `darkroom up`, interrupt it and kill it."""
        with (self.home / "said.log").open("wb") as said:
            supervisor = _up(self.home, self.mark, said)
            self._watch(supervisor, starting_s)
            supervisor.terminate()
            self._watch(supervisor, stopping_s)
            is_killed = supervisor.poll() is None
            supervisor.kill()
            supervisor.wait()
        self.ended_s = time.monotonic()
        end = f"SIGKILL {stopping_s:.2f} s later" if is_killed else "ended"
        self.moments = f"SIGTERM after {starting_s:.2f} s, {end}"

    def _watch(self, supervisor: "subprocess.Popen[bytes]", for_s: float) -> None:
        until_s = time.monotonic() + for_s
        while time.monotonic() < until_s and supervisor.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.seen.update(psutil.Process(supervisor.pid).children(recursive=True))
            time.sleep(0.05)

    def leftovers(self) -> list[str]:
        """Return the processes that still live, at least ten seconds after the kill."""
        sessions = {one.pid for one in self.seen}
        found = [_named(one) for one in psutil.process_iter() if self._is_ours(one, sessions)]
        instance = EmbeddedInstance(self.home / "embedded")
        found += [
            f"{one.program.title} holds its lock" for one in (instance.postgres, instance.redis) if one.is_running()
        ]
        return found

    def _is_ours(self, process: psutil.Process, sessions: set[int]) -> bool:
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return (
                process in self.seen
                or os.getsid(process.pid) in sessions
                or str(self.home) in " ".join(process.cmdline())
                or process.environ().get(MARK) == self.mark
            )
        except (psutil.Error, OSError):
            return False


def _up(home: Path, mark: str, said: BinaryIO) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    environment |= {MARK: mark, "DARKROOM_HOME": str(home), "DARKROOM_PROCESSES": "1", "PROVIDER": "local"}
    return subprocess.Popen([DARKROOM, "up"], env=environment, stdout=said, stderr=said)


def _named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:100]}"
    return str(process.pid)


def _clean_up(starts: Iterable[Start]) -> None:
    for start in starts:
        for process in start.seen:
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(start.home, ignore_errors=True)


def main() -> int:
    """Run all starts; return 1 if one of them left a process over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=100)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    chance, bad, waiting = random.Random(arguments.seed), 0, list[Start]()
    with tempfile.TemporaryDirectory(prefix="dkl", ignore_cleanup_errors=True) as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        made = Path(folder) / "made"
        made.mkdir()
        _whole_start(made)  # the first start creates the data
        ready_s = _whole_start(made)
        print(f"a whole start takes {ready_s:.1f} s", flush=True)
        for number in range(arguments.starts):
            start = Start(number, uuid4().hex, Path(folder) / str(number))
            start.home.mkdir()
            if chance.random() < 0.9:  # otherwise initdb runs, too
                shutil.copytree(made / "embedded", start.home / "embedded", symlinks=True)
            start.run(chance.uniform(0, BEYOND_READY * ready_s), chance.choice([0, chance.uniform(0, LONGEST_STOP_S)]))
            waiting.append(start)
            while waiting and (time.monotonic() - waiting[0].ended_s > AT_MOST_S or number == arguments.starts - 1):
                bad += _judge(waiting.pop(0))
    print(f"{bad} of {arguments.starts} interrupted starts left a process after {AT_MOST_S:.0f} s")
    return int(bad > 0)


def _judge(start: Start) -> bool:
    time.sleep(max(0.0, start.ended_s + AT_MOST_S - time.monotonic()))
    found = start.leftovers()
    line = f"{start.number + 1}: {start.moments}; {len(start.seen)} seen, {len(found)} left"
    print(line, *found, sep="\n    ", flush=True)
    _clean_up([start])
    return bool(found)


def _whole_start(home: Path) -> float:
    """Run one start to its end and return its seconds until `ready`; most later starts reuse its data."""
    with (home / "said.log").open("wb") as said:
        began_s = time.monotonic()
        supervisor = _up(home, "", said)
        while "\nready\n" not in (home / "said.log").read_text():
            if supervisor.poll() is not None or time.monotonic() - began_s > READY_S:
                raise SystemExit("darkroom up isn't ready: " + (home / "said.log").read_text()[-2000:])
            time.sleep(0.05)
        ready_s = time.monotonic() - began_s
        supervisor.terminate()
        supervisor.wait()
    shutil.rmtree(home / "embedded" / "sockets", ignore_errors=True)
    for lock in (home / "embedded").glob("*.lock"):
        lock.unlink()
    return ready_s


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
