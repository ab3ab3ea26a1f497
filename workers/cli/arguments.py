"""Checks of the arguments of every command, made before the command runs."""

import os
from collections.abc import Sequence

from workers.cli.failures import CommandUsageError


def require_text(arguments: Sequence[str]) -> None:
    """Check that every argument is text that JSON and PostgreSQL can store, since a file's name may be other bytes.

    Raises:
        CommandUsageError: an argument isn't such text.
    """
    for one in arguments:
        try:
            one.encode()
        except UnicodeEncodeError:
            shown = repr(os.fsencode(one))[1:]
            raise CommandUsageError(f"argument {shown} is not UTF-8 text; if it names a file, rename it") from None
