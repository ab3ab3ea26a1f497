"""The parent's side of a pixel child: a thread that starts a process, gives it tasks and reaps it."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

import psutil
from typing_extensions import override

from config.logger import EventLogger
from pipelines import errors
from pipelines.errors import BadImageError, PermanentError, PixelChildLostError, StageError
from pipelines.imaging import exchange

log = EventLogger(__name__)

PROGRAM = Path(__file__).with_name("child.py")

START_S = 60.0
"""Seconds that a child may take to start: it imports numpy and OpenCV in 0.5 s, and on a cold disk under load in many
times that."""

WARM_LOOK_S = 5.0
"""Seconds between checks of an idle child that is kept running; one that was killed is replaced within this time."""

FIRST_WAIT_S, MOST_DOUBLINGS = 1.0, 6
"""Seconds between two tries to start a child ahead of its work, and how often a failure doubles them: up to 64 s."""

_CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL})
_BUSY_FRACTION = 0.5
"""A child that missed its deadline with less CPU than this fraction of it was kept waiting by the machine."""

_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "TZ")


class PixelFunctionError(PermanentError):
    """Raised when a pixel function fails in a way that it doesn't declare; `evidence` has its traceback."""


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """Limits and imports of every child of a pool.

    Attributes:
        memory_bytes: its address space.
        nice: how much it gives way to other processes, from 0 (not at all) to 19.
        imports: modules that it imports at its start, beside decoding and encoding.
    """

    memory_bytes: int
    nice: int
    imports: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Task:
    """One call of a function in a child, and the future that gets its result."""

    module: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    wall_s: float
    cpu_s: float
    future: Future[Any] = field(default_factory=Future)
    is_aborted: bool = False

    @classmethod
    def of(
        cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], *, wall_s: float, cpu_s: float
    ) -> Self:
        """Return the call of a function, which the child imports by its name.

        Raises:
            ValueError: a child couldn't import the function by that name.
        """
        module, name = function.__module__, function.__qualname__
        if module == "__main__" or not name.isidentifier():
            raise ValueError(f"{module}.{name} isn't at the top level of an importable module")
        return cls(module, name, args, kwargs, wall_s, cpu_s)

    @override
    def __str__(self) -> str:
        """Return the function's full name."""
        return f"{self.module}.{self.name}"


class PixelChild:
    """A process that runs one task at a time. It is started when a task needs it, and again after its end.

    A child that is kept warm is started before any task comes, and again as soon as it has ended, so that no task waits
    for its imports.
    `submit` is called from one thread at a time; `abort` and `close` from any.
    """

    def __init__(self, limits: ChildLimits, *, is_kept_warm: bool = False) -> None:
        self._limits = limits
        self._is_kept_warm = is_kept_warm
        self._failed_starts = 0
        self._start_after_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        # a daemon thread, so that a pool that nobody closed can't delay the end of the interpreter
        self._thread = threading.Thread(target=self._serve, name="pixel-child", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Return the process id, or None while no process runs."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    def submit(self, task: Task) -> Future[Any]:
        """Hand over a task; its future ends with the result or an error of our tree."""
        self._inbox.put(task)
        return task.future

    def abort(self, task: Task) -> None:
        """Kill the process, because its task was cancelled."""
        with self._lock:
            task.is_aborted = True
            if self._process and not task.future.done():
                self._process.kill()

    def close(self) -> None:
        """Kill the process and end the thread, without waiting. Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._process:
                self._process.kill()
        self._inbox.put(None)

    def join(self) -> None:
        """Wait until the process is reaped and the thread has ended."""
        self._thread.join()

    def _serve(self) -> None:
        """Run tasks until closed."""
        while (task := self._next_task()) is not None:
            try:
                result = self._run(task)
            except BaseException as error:  # noqa: BLE001 - it travels to the caller in the future
                # its frames hold the task and so this future: in a cycle, the task's pictures would outlive the error
                traceback.clear_frames(error.__traceback__)
                task.future.set_exception(error)
            else:
                task.future.set_result(result)
            del task  # or its pictures would be held while this thread waits
        self._end_process()

    def _next_task(self) -> Task | None:
        """Wait for a task, and keep the process running meanwhile if it is to be warm; return None once closed."""
        while self._is_kept_warm:
            wait_s = self._warm_up()
            try:
                return self._inbox.get(timeout=wait_s)
            except queue.Empty:
                pass
        return self._inbox.get()

    def _warm_up(self) -> float:
        """Start the process if it doesn't run; return after how many seconds to check again.

        If the machine lacks memory, open files or processes, the start may succeed later. A task that comes before that
        tries to start the process again, and fails if that fails.
        """
        left_s = self._start_after_s - time.monotonic()
        if left_s > 0 or not self._inbox.empty():
            return max(0.0, left_s)
        try:
            self._living_process(None)
        except (OSError, MemoryError, StageError) as error:
            if self._is_closed:
                return WARM_LOOK_S
            wait_s = FIRST_WAIT_S * 2.0 ** min(self._failed_starts, MOST_DOUBLINGS)
            self._failed_starts += 1
            self._start_after_s = time.monotonic() + wait_s
            evidence = getattr(error, "evidence", None)
            log.warning("pixel_child_start_failed", error=str(error), evidence=evidence, retry_in_s=wait_s)
            return wait_s
        if self._failed_starts:
            log.info("pixel_child_started", failed_starts=self._failed_starts)
        self._failed_starts = 0
        return WARM_LOOK_S

    def _run(self, task: Task) -> Any:
        """Run one task and return its result or error."""
        process = self._living_process(task)
        cpu_before_s = _cpu_s(process.pid)
        try:
            deadline = time.monotonic() + task.wall_s
            request = (task.module, task.name, (task.args, task.kwargs), task.cpu_s)
            exchange.send(_number(process.stdin), request, deadline)
            answer = exchange.receive(_number(process.stdout), deadline)
        except exchange.DeadlineError as error:
            spent_s = _cpu_s(process.pid) - cpu_before_s
            self._end_process(timeout_s=0)
            raise _late(task, spent_s) from error
        except exchange.ChildGoneError as error:
            raise _ended(task, self._end_process(), self._limits) from error
        except exchange.ForeignAnswerError as error:
            self._end_process(timeout_s=0)
            raise PixelFunctionError(f"{task} gave an answer that can't be taken", evidence=str(error)) from error
        except BaseException:
            # half a message may lie in a pipe: the next task must not read it as its own
            self._end_process(timeout_s=0)
            raise
        match answer:
            case ("result", result):
                return result
            case ("refused", str(module), str(name), str(message), evidence):
                raise _declared(module, name, message, evidence)
            case ("memory",):
                self._end_process()
                raise BadImageError(f"picture needs more memory than the limit of {self._limits.memory_bytes:,} bytes")
            case ("failed", str(name), str(trace)):
                raise PixelFunctionError(f"pixel work failed: {name} in {task}", evidence=trace)
            case _:
                self._end_process(timeout_s=0)
                raise PixelFunctionError(f"{task} gave an answer that can't be taken")

    def _living_process(self, task: Task | None) -> subprocess.Popen[bytes]:
        """Return the running process, or start one: no task fails because a child died while it was idle.

        Args:
            task: for which the process is needed; None starts it ahead of any.
        """
        if self._process and self._process.poll() is None:
            return self._process
        self._end_process()
        with self._lock:
            if self._is_closed or (task is not None and task.is_aborted):
                raise PixelChildLostError(f"{task or 'the pool'} was given up before its child started")
            process = self._process = _started()
        try:
            deadline = time.monotonic() + START_S
            exchange.send(_number(process.stdin), _setup(self._limits), deadline)
            answer = exchange.receive(_number(process.stdout), deadline)
        except (exchange.ChildGoneError, exchange.DeadlineError, exchange.ForeignAnswerError) as error:
            code = self._end_process()
            raise PixelChildLostError(f"a pixel child did not start ({_ending(code)})") from error
        if answer != ("ready",):
            self._end_process(timeout_s=0)
            raise PixelChildLostError("a pixel child did not start", evidence=str(answer))
        return process

    def _end_process(self, *, timeout_s: float = 1.0) -> int:
        """Reap the process, if any, and return its code.

        Args:
            timeout_s: how long a process whose pipe has ended may take to end by
                itself, so that its own signal is what is reported; then it is killed.
        """
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return 0
        for pipe in (process.stdin, process.stdout):
            if pipe:
                pipe.close()
        try:
            return process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


def _started() -> subprocess.Popen[bytes]:
    """Start the program by its path, in isolated mode, without the worker's environment, which may contain secrets."""
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
    process = subprocess.Popen(
        [sys.executable, "-I", str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # decoders print warnings about hostile pictures; what matters comes as an answer
        bufsize=0,
        env=environment | one_thread,
    )
    for pipe in (process.stdin, process.stdout):
        os.set_blocking(_number(pipe), False)
    return process


def _setup(limits: ChildLimits) -> dict[str, Any]:
    """Build the first message: what the child needs before it can import anything of ours."""
    return {
        "sys_path": [str(Path(entry).absolute()) for entry in sys.path],
        "parent_pid": os.getpid(),
        "memory_bytes": limits.memory_bytes,
        "nice": limits.nice,
        "imports": limits.imports,
    }


def _number(pipe: IO[bytes] | None) -> int:
    """Return a pipe's file descriptor."""
    if pipe is None:
        raise RuntimeError("a child was started without pipes")
    return pipe.fileno()


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds that a process has used; 0 when it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _declared(module: str, name: str, message: str, evidence: Any) -> StageError:
    """Rebuild an error that a function declares. An error that can't be built from a message becomes PermanentError."""
    evidence = None if evidence is None else str(evidence)
    found = getattr(sys.modules.get(module, errors), name, None)
    if isinstance(found, type) and issubclass(found, StageError):
        try:
            return found(message, evidence=evidence)
        except TypeError:
            pass
    return PermanentError(message, evidence=evidence)


def _ended(task: Task, code: int, limits: ChildLimits) -> StageError:
    """Return the error for a child that ended during a task."""
    if code == -signal.SIGXCPU:
        return BadImageError(f"picture needs more CPU than the limit of {task.cpu_s:g} s")
    if -code in _CRASHES:
        # a C++ library that can't allocate under RLIMIT_AS aborts, too
        return BadImageError(
            f"picture crashed its decoder ({_ending(code)}) within the limit of {limits.memory_bytes:,} bytes of memory"
        )
    return PixelChildLostError(f"the child that ran {task} was lost ({_ending(code)})")


def _late(task: Task, spent_s: float) -> StageError:
    """Return the error for a missed deadline. If the child was computing all the time, the picture is the reason."""
    if spent_s >= _BUSY_FRACTION * task.wall_s:
        return BadImageError(f"picture needs more time than the limit of {task.wall_s:g} s ({spent_s:.1f} s of it CPU)")
    return PixelChildLostError(
        f"{task} was not done after {task.wall_s:g} s, in which its child got {spent_s:.1f} s of CPU: "
        "the machine is overloaded or the child was stopped"
    )


def _ending(code: int) -> str:
    """Return how a pixel child ended as text, such as `exit code 1` or `SIGKILL`; negative codes are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
