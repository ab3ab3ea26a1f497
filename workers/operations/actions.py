"""The name under which an operator's actions are recorded."""

import getpass
import os


def os_user() -> str:
    """Return the name of the user who runs this process; in a container without names, the user's number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
