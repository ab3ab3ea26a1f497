"""Named places at which a test may let a process die: before and after each commit, provider call and object write.

Nobody listens in production, and a place then costs one comparison. The
proof sets `on_pass` in a process of its own (tests/crash) and dies there with
`os._exit`, so that nothing is tidied up on the way out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

on_pass: Callable[[str], None] | None = None
"""Told each place that is passed, such as `before complete`; only tests set it."""


@contextmanager
def failpoint(name: str) -> Iterator[None]:
    """Mark one step of which the outside sees the effect: `before NAME` and, if it succeeded, `after NAME`."""
    if on_pass is not None:
        on_pass(f"before {name}")
    yield
    if on_pass is not None:
        on_pass(f"after {name}")
