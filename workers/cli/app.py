"""The program `darkroom`: its commands, and the translation of their errors into lines and exit codes."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, NoReturn

import typer
from typer._completion_classes import completion_init
from typing_extensions import override

from config.masking import SecretMask
from workers.cli.arguments import require_text
from workers.cli.catalogue import COMMANDS, STATUS, VERSION
from workers.cli.failures import DONE, INTERRUPTED, SIGNALLED
from workers.cli.lazy import HELP, LazyGroup, function_at
from workers.cli.leaving import signals_heard
from workers.cli.printed import open_closed_streams, printed_output, report_written

SERVICES = frozenset({"up", "worker", "scheduler", "dashboard"})
"""Commands that run as services; their output is a log."""


class Darkroom(LazyGroup):
    """The program: all commands, and the options that `main` removes from the arguments before typer sees them."""

    sections = COMMANDS
    options = MappingProxyType(
        {
            "--debug": "Show the traceback of an error. May be added to any command.",
            "-h, --help": "Show this help. May be added to any group and command.",
            "--version": "Show the version of Darkroom.",
        }
    )

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["--version"]:
            ctx.exit(function_at(VERSION)())
        return super().parse_args(ctx, args)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    # By default pydantic reads the metadata of every installed package to look for plug-ins
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    given = list(sys.argv[1:] if arguments is None else arguments) or [STATUS]
    own = given[: given.index("--")] if "--" in given else given
    is_debug = "--debug" in own  # accepted at any place, as people add it to a command after an error
    given = [one for one in own if one != "--debug"] + given[len(own) :]
    with signals_heard() as signals, report_written():
        try:
            code = _run(given, is_debug=is_debug)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
    return SIGNALLED + signals[0] if signals and code == INTERRUPTED else code


def _run(arguments: list[str], *, is_debug: bool) -> int:
    """Run one command and return its exit code; if it raises an error, print the error first."""
    try:
        with printed_output():
            require_text(arguments)
            code = program().main(arguments, prog_name="darkroom", standalone_mode=False)
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of stdout has closed it; the interpreter's flush at exit must not fail too
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except typer.Abort:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where a command's error becomes a line
        return _report(error, is_debug=is_debug, is_service=arguments[0] in SERVICES)
    return code or DONE


def program() -> Darkroom:
    """Return the program's group of commands."""
    completion_init()
    return Darkroom(
        name="darkroom",
        help="Run the image jobs of an application's own PostgreSQL tables. Begin with `darkroom demo`.",
        context_settings={"help_option_names": list(HELP)},
    )


def _report(error: Exception, *, is_debug: bool, is_service: bool) -> int:
    from workers.cli.reporting import explain, logged  # noqa: PLC0415 - needs every package with errors of its own

    mask = SecretMask()
    code, line = explain(error)
    if is_debug:
        sys.stderr.write(mask("".join(traceback.format_exception(error))))
    line = " ".join(mask(line).split())
    if not (is_service and logged(line, code)):
        # the faults of a file are lines of their own, as compilers print them
        lines = [mask(one) for one in getattr(error, "lines", ())] or [f"darkroom: {line}"]
        with suppress(OSError):
            sys.stderr.write("".join(f"{one}\n" for one in lines))
    return code


def run() -> NoReturn:
    """Run the command that was typed, and end the process with its exit code."""
    open_closed_streams()
    code = main()
    gc.freeze()  # otherwise the interpreter collects garbage at its end, which takes a quarter of a command's time
    sys.exit(code)


if __name__ == "__main__":
    run()
