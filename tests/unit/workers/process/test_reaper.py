"""Reaping of orphans, in a process that was made their parent, as process 1 is."""

import contextlib
import ctypes
import os
import subprocess
import time

import psutil
import pytest

from tests.support.patience import HANGS_AFTER_S
from workers.process.reaper import Reaper

PR_SET_CHILD_SUBREAPER = 36
TWO_ORPHANS = "exec 3<&0; for _ in 1 2; do cat <&3 > /dev/null & echo $!; done"
"""Two processes that end only when standard input is closed: a shell reaps by itself those that end before it does."""


@pytest.fixture
def _adopting():
    prctl = ctypes.CDLL(None).prctl
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def is_zombie(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return False


def wait_until(claim):
    until_s = time.monotonic() + HANGS_AFTER_S
    while not claim():
        assert time.monotonic() < until_s
        time.sleep(0.01)


@pytest.mark.usefixtures("_adopting")
def test_orphans_are_reaped_at_the_second_look_and_own_children_never():
    read_end, write_end = os.pipe()
    said = subprocess.run(["sh", "-c", TWO_ORPHANS], stdin=read_end, stdout=subprocess.PIPE, check=True)
    orphans = {int(pid) for pid in said.stdout.split()}
    os.close(read_end)
    os.close(write_end)
    wait_until(lambda: all(is_zombie(pid) for pid in orphans))
    reaper = Reaper()

    assert reaper.look() == []
    reaped = reaper.look() + reaper.look() + reaper.look()
    assert set(reaped) == orphans
    assert not any(psutil.pid_exists(pid) for pid in orphans)

    own = subprocess.Popen(["sh", "-c", "exit 3"])
    reaper.own.add(own.pid)
    wait_until(lambda: is_zombie(own.pid))
    assert [reaper.look() for _ in range(3)] == [[], [], []]
    assert own.wait() == 3
