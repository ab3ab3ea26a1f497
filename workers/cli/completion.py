"""The command completion: prints the script with which a shell completes commands and options."""

from enum import StrEnum
from typing import Annotated, Final

import typer
from typer._completion_shared import _get_shell_name, get_completion_script, install

from workers.cli.failures import DONE, CommandUsageError

PROGRAM: Final = "darkroom"
VARIABLE: Final = "_DARKROOM_COMPLETE"
"""Environment variable through which that script asks the program for completions."""


class Shell(StrEnum):
    """A shell for which `darkroom completion` has a script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(
    shell: Annotated[
        Shell | None,
        typer.Argument(metavar="SHELL", help="The shell. Without it, the one from which the command is run."),
    ] = None,
    *,
    installs: Annotated[
        bool, typer.Option("--install", help="Write the script into the shell's start-up files.")
    ] = False,
) -> int:
    """Print a script that makes a shell complete commands and options."""
    wanted = (shell or _running_shell()).value
    if installs:
        _, path = install(shell=wanted, prog_name=PROGRAM, complete_var=VARIABLE)
        typer.echo(f"written to {path}; a new {wanted} completes darkroom")
    else:
        typer.echo(get_completion_script(prog_name=PROGRAM, complete_var=VARIABLE, shell=wanted))
    return DONE


def _running_shell() -> Shell:
    """Return the shell from which this command was called.

    Raises:
        CommandUsageError: no shell called it, or one for which `darkroom completion` has no script.
    """
    name = _get_shell_name()
    if name not in list(Shell):
        raise CommandUsageError(f"which shell? give {', '.join(Shell)}")
    return Shell(name)
