"""Failpoints: named places at which a test may end a process, before and after each commit, call and object write.

`on_pass` is the function that each failpoint calls. In production it is None, and a failpoint costs one comparison. The
crash tests (tests/acceptance/test_crash_points.py) set `on_pass` in a process of their own and end that process at a
failpoint with `os._exit`, so that no clean-up code runs.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

on_pass: Callable[[str], None] | None = None
"""Called with the name of each failpoint that is passed, such as `before complete`; only tests set it."""


@contextmanager
def failpoint(name: str) -> Iterator[None]:
    """Put a failpoint `before NAME` ahead of the `with` block, and `after NAME` behind it, if it raised nothing."""
    if on_pass is not None:
        on_pass(f"before {name}")
    yield
    if on_pass is not None:
        on_pass(f"after {name}")


@contextmanager
def failpoints(names: Iterable[str]) -> Iterator[None]:
    """Put the failpoints of several names around a `with` block, for a commit in which all of them happen."""
    if on_pass is None:
        yield
        return
    with ExitStack() as stack:
        for name in sorted(set(names)):
            stack.enter_context(failpoint(name))
        yield
