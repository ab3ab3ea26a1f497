"""The lines of the log, made by structlog. A process imports this module when it writes its first line."""

import logging
import os
import socket
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TextIO

import structlog

from config.json_text import json_text
from config.logger import bound_fields, configured_logger
from config.masking import SecretMask

_HOST: Final = socket.gethostname()


def _with_bound_fields(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**bound_fields.get(), **event}


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
            self._handler.stream.write(line + "\n")
            self._handler.stream.flush()
        except (OSError, ValueError):
            pass
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


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
    renderers = _console(mask, colors=colors) if log_format == "console" else _json(mask, process_fields)
    lines = _Lines(handler)
    structlog.configure(
        processors=renderers,
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
    )
    configured_logger[:] = [structlog.get_logger().bind()]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _console(mask: SecretMask, *, colors: bool) -> list[structlog.typing.Processor]:
    def masked(_logger: object, _method: str, line: Any) -> str:
        return mask(line)  # with its nested fields and tracebacks

    # the default formatter prints the local variables of every frame when rich is installed, and they may hold keys
    plain = structlog.dev.plain_traceback
    return [
        _with_bound_fields,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _masked_values(mask),
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain),
        masked,
    ]


def _json(mask: SecretMask, process_fields: Mapping[str, str]) -> list[structlog.typing.Processor]:
    mask_values = _masked_values(mask)

    def line(logger: object, method: str, event: structlog.typing.EventDict) -> str:
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(logger, method, event)
        fields = {
            "host": _HOST,
            "pid": os.getpid(),
            **process_fields,
            **bound_fields.get(),
            **event,
            "level": method,
            "timestamp": _now(),
        }
        text = json_text(fields, default=str)
        if not mask.may_concern(text):  # as in nearly every line
            return text
        return mask(json_text(mask_values(logger, method, fields), default=str))

    return [line]  # one function: each job logs a line, and a chain of them would take a sixth longer


def _now() -> str:
    """Return the time in UTC as ISO 8601 has it. The second is kept, because `datetime` takes four times as long."""
    seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06d}Z"


@lru_cache(maxsize=1)
def _second(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))


def _masked_values(mask: SecretMask) -> structlog.typing.Processor:
    """Return a structlog processor that masks secrets before a renderer escapes them.

    In JSON a key in quotation marks is escaped, and its form is no longer known.
    """

    def processor(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {name: mask(value) if isinstance(value, str) else value for name, value in event.items()}

    return processor
