"""The loggers of Darkroom's events. They import structlog at the first event, because most commands log no event."""

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Final

before_first_event: Final[list[Callable[[], None]]] = []
"""The function that configures structlog, once `config.log.configure_logging` has put it here; empty afterwards."""


least_level: Final[list[int]] = [logging.DEBUG]
"""The level below which no event is logged, once `config.log.configure_logging` has set it."""


configured_logger: Final[list[Any]] = []
"""The structlog logger that writes all events, once structlog is configured; empty before."""


bound_fields: Final[ContextVar[Mapping[str, object]]] = ContextVar("fields of log lines", default=MappingProxyType({}))
"""The fields that each line has which the current task logs, or a task that it begins."""


class EventLogger:
    """A logger that uses structlog's when an event is logged. Where its level isn't logged, it does nothing else."""

    def __init__(self, name: str) -> None:
        """Store the logger's name, which is its module's."""
        self._name = name

    def debug(self, event: str, **fields: object) -> None:
        """Log an event of level debug."""
        if least_level[0] <= logging.DEBUG:
            self._logger().debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Log an event of level info."""
        if least_level[0] <= logging.INFO:
            self._logger().info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log an event of level warning."""
        self._logger().warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Log an event of level error; `exc_info` is an error whose traceback belongs to it."""
        self._logger().error(event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """Log an event of level error with the traceback of the error that is being handled."""
        self._logger().exception(event, **fields)

    def _logger(self) -> Any:
        """Return the structlog logger. The first call in a process, by any logger, configures structlog."""
        if before_first_event:  # without a lock, which a forked process might never get: doing it twice does no harm
            done = tuple(before_first_event)
            for set_up in done:
                set_up()
            before_first_event[:] = [one for one in before_first_event if one not in done]
        return configured_logger[0] if configured_logger else resolve_name("structlog:get_logger")(self._name)
