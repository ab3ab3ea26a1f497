"""Logging: our events by structlog, other libraries' by the standard library, in one format, with secrets masked."""

import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from types import TracebackType
from typing import Final, Literal, TextIO

from typing_extensions import override

from config.logger import EventLogger, before_first_event, least_level
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

_process_fields: dict[str, str] = {}

log = EventLogger(__name__)


class LineHandler(logging.StreamHandler[TextIO]):
    """A handler that imports structlog, and sets it up, when it writes its first line."""

    def __init__(self, settings: CoreSettings, stream: TextIO) -> None:
        """Store the stream, the format of the lines, and the mask for secrets."""
        super().__init__(stream)
        self._format = settings.log_format or default_format(stream)
        self._mask = secret_mask(settings)

    def set_up(self) -> None:
        """Import and configure structlog, unless that is done."""
        if self.formatter is None:
            make: Callable[..., logging.Formatter] = resolve_name("config.log_lines:set_up")
            colors = self._format == "console" and self.stream.isatty()
            self.setFormatter(make(self, self._mask, self._format, _process_fields, colors=colors))

    @override
    def format(self, record: logging.LogRecord) -> str:
        self.set_up()
        return super().format(record)


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
    handler = LineHandler(settings, stream)
    before_first_event[:] = [handler.set_up]
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    least_level[0] = root.level
    for name in CHATTY_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger(SILENT_LOGGER).setLevel(logging.CRITICAL)
    _warn_of_dropped_parameters(settings)


def is_configured() -> bool:
    """Return whether `configure_logging` was called in this process."""
    return any(isinstance(handler, LineHandler) for handler in logging.getLogger().handlers)


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


def _warn_of_dropped_parameters(settings: CoreSettings) -> None:
    for field in ("database_url", "database_direct_url"):
        url = getattr(settings, field)
        if url and (dropped := parse_postgres_url(url).dropped):
            variable = settings.variable_of(field)
            log.warning("database_url_parameters_dropped", variable=variable, parameters=list(dropped))
