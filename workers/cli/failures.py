"""Exit codes, and the errors that commands raise themselves. `workers.cli.reporting` puts all others into words."""

from typing import Final

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
SIGNALLED: Final = 128
"""Plus the signal's number, as shells count: 143 after SIGTERM."""


class CommandError(Exception):
    """A command failed; the message is the line to print."""

    exit_code = FAILED


class CommandUsageError(CommandError):
    """A command was called in a way, or in an environment, that can't work."""

    exit_code = USAGE
