"""Exit codes, and the errors that commands raise themselves. `workers.cli.reporting` has messages for all errors."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
SIGNALLED: Final = 128
"""The exit code after a signal is this plus the signal's number, as in shells: 143 after SIGTERM."""


class CommandError(Exception):
    """Raised when a command failed; the message is the line to print."""

    exit_code = FAILED


class CommandUsageError(CommandError):
    """Raised when a command was called in a way, or in an environment, in which it can't work."""

    exit_code = USAGE
