"""The lines of the log, made by structlog. A process imports this module when it writes its first line."""

import contextlib
import logging
import os
import socket
from collections.abc import Mapping
from typing import Any, Final, TextIO

import structlog
from typing_extensions import override

from config.masking import SecretMask

_HOST: Final = socket.gethostname()

_SHARED: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class _Lines:
    """Logger of structlog that writes finished lines to the stream of a handler, one at a time.

    Our own events don't become records of the standard library, because that would double the time that a line takes.
    Lines are written under the handler's lock. The standard library frees that lock in a forked process, so that a
    process which is forked during a write doesn't hang at its first line.
    """

    def __init__(self, handler: "logging.StreamHandler[TextIO]") -> None:
        self._handler = handler

    def write(self, line: str) -> None:
        """Write a line.

        If the stream can't take the line, as on a full disk, the work that the line reports must not fail.
        """
        self._handler.acquire()
        try:
            with contextlib.suppress(OSError, ValueError):
                self._handler.stream.write(line + "\n")
                self._handler.flush()
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Formatter of other libraries' records. It masks secrets, as is done in our own lines."""

    def __init__(self, mask: SecretMask, renderers: list[structlog.typing.Processor]) -> None:
        super().__init__(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
        self._mask = mask

    @override
    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


def set_up(
    handler: "logging.StreamHandler[TextIO]",
    mask: SecretMask,
    log_format: str,
    process_fields: Mapping[str, str],
    *,
    colors: bool,
) -> logging.Formatter:
    """Configure structlog to write to a handler's stream, and return the formatter of other libraries' records.

    Args:
        handler: the handler of the root logger, whose level is that of the log.
        mask: replaces secrets.
        log_format: `console` or `json`.
        process_fields: fields of every JSON line of this process; a field that is added to this mapping later is in
            later lines.
        colors: whether lines for a console are coloured.
    """
    renderers = _renderers(mask, log_format, process_fields, colors=colors)
    lines = _Lines(handler)
    structlog.configure(
        processors=[*_SHARED, *renderers, _line_mask(mask)],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
        cache_logger_on_first_use=False,  # loggers that are made at import time must use a configuration made later
    )
    return _MaskingFormatter(mask, renderers)


def _renderers(
    mask: SecretMask, log_format: str, process_fields: Mapping[str, str], *, colors: bool
) -> list[structlog.typing.Processor]:
    if log_format == "console":
        # the default formatter prints the local variables of every frame when rich is installed, and they may hold keys
        plain = structlog.dev.plain_traceback
        return [_value_mask(mask), structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]

    def process_named(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"host": _HOST, "pid": os.getpid(), **process_fields, **event}

    return [
        _value_mask(mask),
        process_named,
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(default=str),
    ]


def _value_mask(mask: SecretMask) -> structlog.typing.Processor:
    """Return a structlog processor that masks secrets before a renderer escapes them.

    In JSON a secret with a quotation mark is escaped, and would no longer be found.
    """

    def processor(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {name: mask(value) if isinstance(value, str) else value for name, value in event.items()}

    return processor


def _line_mask(mask: SecretMask) -> structlog.typing.Processor:
    """Return a structlog processor that masks the finished line, with its nested fields and tracebacks."""

    def processor(_logger: object, _method: str, line: Any) -> str:
        return mask(line)

    return processor
