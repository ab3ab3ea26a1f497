"""Logging: our events by structlog, other libraries' by the standard library, in one format, with secrets masked."""

import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog
from typing_extensions import override

from config.masking import SecretMask
from config.postgres_url import parse_postgres_url
from config.settings import CoreSettings

# Below WARNING these loggers print URLs with keys, signatures and bodies, or a line for each call, or repeat our
# events.
CHATTY_LOGGERS: Final = (
    "httpx", "httpcore", "botocore", "boto3", "s3transfer", "urllib3", "PIL", "asyncio", "alembic", "dramatiq",
)  # fmt: skip
# The logger of RabbitMQ's client writes a traceback for each error, although the client also raises that error.
SILENT_LOGGER: Final = "pika"
# Secrets that other libraries read from the environment, and that their error messages may repeat.
SECRET_VARIABLES: Final = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "PGPASSWORD",
)  # fmt: skip

_SHARED: Final[tuple[structlog.typing.Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


_HOST: Final = socket.gethostname()

_process_fields: dict[str, str] = {}

log = structlog.get_logger(__name__)


class _Lines:
    """Logger of structlog that writes finished lines to the stream of a handler, one at a time.

    Our own events don't become records of the standard library, which would take as long as all else. The handler's
    lock is used, because the standard library releases it in a forked process.
    """

    def __init__(self, handler: "logging.StreamHandler[TextIO]") -> None:
        self._handler = handler

    def write(self, line: str) -> None:
        """Write a line. A stream that can't take it, such as one on a full disk, must not fail the work it is about."""
        self._handler.acquire()
        try:
            with contextlib.suppress(OSError, ValueError):
                self._handler.stream.write(line + "\n")
                self._handler.flush()
        finally:
            self._handler.release()

    debug = info = warning = error = critical = write


class _MaskingFormatter(structlog.stdlib.ProcessorFormatter):
    """Formatter of other libraries' records, which masks secrets as our own lines do."""

    def __init__(self, mask: SecretMask, renderers: list[structlog.typing.Processor]) -> None:
        super().__init__(
            foreign_pre_chain=[*_SHARED, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
        self._mask = mask

    @override
    def format(self, record: logging.LogRecord) -> str:
        return self._mask(super().format(record))


def secret_mask(settings: CoreSettings, environ: Mapping[str, str] | None = None) -> SecretMask:
    """Return the mask for texts that are logged or stored: it knows common forms of keys and each configured secret."""
    environ = os.environ if environ is None else environ
    return SecretMask([*settings.secrets(), *(environ[name] for name in SECRET_VARIABLES if environ.get(name))])


def configure_logging(settings: CoreSettings, *, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process. A second call replaces the first.

    Args:
        settings: the format, the level, and the secrets to mask.
        stream: where lines are written; None is stderr. Stdout is kept for `ready` lines and for --json.
    """
    stream = sys.stderr if stream is None else stream
    log_format = settings.log_format or default_format(stream)
    mask = secret_mask(settings)
    renderers = _renderers(mask, log_format, colors=log_format == "console" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_MaskingFormatter(mask, renderers))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(SILENT_LOGGER).setLevel(logging.CRITICAL)
    lines = _Lines(handler)
    structlog.configure(
        processors=[*_SHARED, *renderers, _line_mask(mask)],
        logger_factory=lambda *_: lines,
        wrapper_class=structlog.make_filtering_bound_logger(root.level),
        cache_logger_on_first_use=False,  # loggers that are made at import time must use a configuration made later
    )
    _warn_of_dropped_parameters(settings)


def default_format(stream: TextIO) -> Literal["console", "json"]:
    """Return the format of log lines where LOG_FORMAT is unset: console on a terminal, JSON elsewhere."""
    return "console" if stream.isatty() else "json"


def name_process(**fields: str) -> None:
    """Add fields, such as a worker's id, to every JSON line of this process, beside its host and pid."""
    _process_fields.update(fields)


def log_uncaught() -> None:
    """Log uncaught warnings and exceptions of this process, which Python would otherwise write to stderr as text."""
    logging.captureWarnings(True)  # noqa: FBT003 - the standard library's own
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        log.error("error_uncaught", exc_info=(kind, error or kind(), traceback))


def _process_named(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {"host": _HOST, "pid": os.getpid(), **_process_fields, **event}


def _renderers(mask: SecretMask, log_format: str, *, colors: bool) -> list[structlog.typing.Processor]:
    if log_format == "console":
        # the default formatter prints the local variables of every frame when rich is installed, and they may hold keys
        plain = structlog.dev.plain_traceback
        return [_value_mask(mask), structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)]
    return [
        _value_mask(mask),
        _process_named,
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
    """Mask the finished line, so that no nested field and no traceback is left out."""

    def processor(_logger: object, _method: str, line: Any) -> str:
        return mask(line)

    return processor


def _warn_of_dropped_parameters(settings: CoreSettings) -> None:
    for field in ("database_url", "database_direct_url"):
        url = getattr(settings, field)
        if url and (dropped := parse_postgres_url(url).dropped):
            variable = settings.variable_of(field)
            log.warning("database_url_parameters_dropped", variable=variable, parameters=list(dropped))
