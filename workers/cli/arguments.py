"""What is looked at in the arguments of every command, before one of them runs."""

import os
from collections.abc import Sequence

from workers.cli.failures import CommandUsageError


def require_text(arguments: Sequence[str]) -> None:
    """See that every argument is text, as JSON and PostgreSQL have it; a file's name may be other bytes.

    Raises:
        CommandUsageError: one isn't.
    """
    for one in arguments:
        try:
            one.encode()
        except UnicodeEncodeError:
            shown = repr(os.fsencode(one))[1:]
            raise CommandUsageError(f"argument {shown} is not UTF-8 text; if it names a file, rename it") from None
