"""Who acts when an operator changes something."""

import getpass
import os


def os_user() -> str:
    """Name who runs this process; a container's bare number where there is no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
