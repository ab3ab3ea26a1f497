"""The modules whose functions run in pixel children, for callers of `PixelPool.run`, which must not import them.

numpy and OpenCV take 32 MB and 0.2 s of CPU in each process that imports them, and a worker itself touches no pixel. So
these modules are imported here for the type checker only; at run time each of their functions is a name, and its module
is imported where it is called.
"""

from collections.abc import Callable
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

__all__ = ["finishing", "learned", "looking", "orientation", "outgoing", "preview", "work"]


class _ChildModule:
    """Stands for a module: each attribute stands for the function of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that has the name of the one in the module, by which a child finds it."""

        def function(*args: Any, **kwargs: Any) -> Any:
            return resolve_name(f"{self._name}:{name}")(*args, **kwargs)

        function.__module__, function.__qualname__ = self._name, name
        return function


if TYPE_CHECKING:
    from pipelines.imaging import finishing, looking, orientation, outgoing, preview
    from pipelines.providers.local import learned, work
else:
    finishing, looking, orientation, outgoing, preview = (
        _ChildModule(f"pipelines.imaging.{name}")
        for name in ("finishing", "looking", "orientation", "outgoing", "preview")
    )
    learned, work = (_ChildModule(f"pipelines.providers.local.{name}") for name in ("learned", "work"))
