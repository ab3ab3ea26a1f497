"""The program of a pixel child: it limits its own memory and rights, and then runs one pure function after another.

`pipelines.imaging.pool` starts it as a file, in isolated mode and with an
empty environment, so until its parent has sent `sys.path` it may import the
standard library only. A message is 8 bytes of length, big-endian,
and a pickle. The child trusts requests; the
parent doesn't trust answers (see `pool`).
"""

import contextlib
import ctypes
import importlib
import math
import os
import pickle
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
"""These two are options of prctl(2) on Linux, from include/uapi/linux/prctl.h."""

LENGTH_BYTES = 8
MAX_TRACEBACK_CHARS = 4000
CV_NO_MEMORY = -4
"""OpenCV 5.0 calls this code `cv::Error::StsNoMem`."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""These two are options of mallopt(3) of glibc, from malloc.h."""

KEPT_BLOCK_BYTES, KEPT_BYTES = 40 * 1024 * 1024, 128 * 1024 * 1024
IDLE_S = 1.0
"""A child keeps freed memory while it is busy: to get the 150 MB of a photograph of 12 megapixels from the kernel anew,
page by page, takes a sixth of its CPU. It keeps so many bytes at most, and no block that is larger than the first
number, so that the largest pictures find the room that they found before. All goes back when it has been idle so
long."""

WARM_IMPORTS = ("numpy", "PIL.Image", "PIL.ImageCms", "cv2", "pipelines.imaging.decode", "pipelines.imaging.encode")


def main() -> None:
    """Serve requests from standard input until it ends."""
    requests, answers = _take_pipes()
    setup = _read(requests)
    _limit_process(setup["memory_bytes"], setup["parent_pid"], setup["nice"])
    _keep_memory()
    sys.path[:] = setup["sys_path"]
    sys.dont_write_bytecode = True
    _send(answers, _attempt(_warm_up, setup["imports"]))
    while (request := _next(requests)) is not None:
        module, name, arguments, cpu_s = request
        _limit_cpu(cpu_s)
        answer = _attempt(_call, module, name, arguments)
        del request, arguments
        _send(answers, answer)
        if answer[0] == "memory":
            return  # its address space is fragmented, so the next task gets a fresh child
        del answer


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move the pipes to other descriptors, so that a library that prints can't write into the protocol."""
    requests = os.fdopen(os.dup(0), "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(null, number)
    os.close(null)
    return requests, answers


def _limit_process(memory_bytes: int, parent_pid: int, nice: int) -> None:
    """Limit this process's memory and rights, and end it with its parent; CPU is limited for each task."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # a terminal or a supervisor signals the whole group; what ends a child is its parent's decision
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)  # the parent died before the line above took effect
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS has the constant and refuses the call
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    os.nice(nice)


def _keep_memory() -> None:
    """Let the C library keep what is freed, within limits; one that isn't glibc, or an old one, stays as it is."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES):
            mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _next(requests: BinaryIO) -> Any:
    """Wait for a request, and give kept memory back meanwhile; return None when the parent has closed its end."""
    if not select.select([requests], [], [], IDLE_S)[0]:
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
    return _read(requests)


def _attempt(work: Callable[..., tuple[Any, ...]], *arguments: Any) -> tuple[Any, ...]:
    """Run work, and return an answer for its result or for any error."""
    try:
        return work(*arguments)
    except MemoryError:
        return ("memory",)
    except Exception as error:  # noqa: BLE001 - a child has no log, and serves other jobs: its parent is told
        return _failure(error)


def _failure(error: Exception) -> tuple[Any, ...]:
    """Turn an error into an answer with its kind: declared by the function, too little memory, or a fault."""
    ours = sys.modules.get("pipelines.errors")  # a function that raises one of these has imported the module
    if ours is not None and isinstance(error, ours.StageError):
        return "refused", type(error).__module__, type(error).__qualname__, str(error), error.evidence
    if getattr(error, "code", None) == CV_NO_MEMORY:
        return ("memory",)
    return "failed", type(error).__name__, "".join(traceback.format_exception(error))[-MAX_TRACEBACK_CHARS:]


def _warm_up(imports: tuple[str, ...]) -> tuple[Any, ...]:
    """Import what pixel work needs, so that no task has to wait for these imports."""
    for module in (*WARM_IMPORTS, *imports):
        importlib.import_module(module)
    sys.modules["cv2"].setNumThreads(1)
    return ("ready",)


def _limit_cpu(cpu_s: float) -> None:
    """Set the task's limit of CPU seconds from now on; the kernel ends a process that exceeds it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = math.ceil(used.ru_utime + used.ru_stime + cpu_s)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


def _call(module: str, name: str, arguments: tuple[tuple[Any, ...], dict[str, Any]]) -> tuple[Any, ...]:
    """Import a function by its name and run it."""
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return "result", function(*arguments[0], **arguments[1])


def _read(stream: BinaryIO) -> Any:
    """Read one message; return None when the parent has closed its end."""
    length = _read_exactly(stream, LENGTH_BYTES)
    if length is None:
        return None
    body = _read_exactly(stream, int.from_bytes(length, "big"))
    return None if body is None else pickle.loads(body)  # noqa: S301 - our own parent wrote it


def _read_exactly(stream: BinaryIO, size: int) -> bytearray | None:
    body = bytearray(size)
    view = memoryview(body)
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]  # unbuffered files have it
        if not count:
            return None
        view = view[count:]
    return body


def _send(stream: BinaryIO, answer: tuple[Any, ...]) -> None:
    pickled = _attempt(_pickled, answer)  # a result that can't be pickled is a fault of the function
    body: bytes = pickled[1] if pickled[0] == "pickled" else _pickled(pickled)[1]
    view = memoryview(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    while view:
        view = view[stream.write(view) :]


def _pickled(answer: tuple[Any, ...]) -> tuple[str, bytes]:
    return "pickled", pickle.dumps(answer, protocol=5)


if __name__ == "__main__":
    main()
