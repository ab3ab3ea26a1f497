"""The program `darkroom`: its commands, and the translation of their errors into lines and exit codes."""

import gc
import os
import sys
import traceback
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, NoReturn

import typer
from typer._completion_classes import completion_init
from typing_extensions import override

from config.masking import SecretMask
from workers.cli.catalogue import COMMANDS, STATUS, VERSION
from workers.cli.failures import DONE, INTERRUPTED, SIGNALLED
from workers.cli.lazy import HELP, LazyGroup, function_at
from workers.cli.leaving import signals_heard
from workers.cli.printed import printed_output

SERVICES = frozenset({"up", "worker", "scheduler"})
"""Commands that run as services, whose output is a log."""


class Darkroom(LazyGroup):
    """The program: all commands, and the options that `main` takes out of whatever was typed."""

    sections = COMMANDS
    options = MappingProxyType(
        {
            "--debug": "Show the traceback of an error; with any command.",
            "-h, --help": "Show help; of any group and command.",
            "--version": "Show which Darkroom this is.",
        }
    )

    @override
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["--version"]:
            ctx.exit(function_at(VERSION)())
        return super().parse_args(ctx, args)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    # to look for plug-ins pydantic reads what every installed package says of itself
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    given = list(sys.argv[1:] if arguments is None else arguments) or [STATUS]
    own = given[: given.index("--")] if "--" in given else given
    is_debug = "--debug" in own  # wherever it stands, as one adds it after an error
    given = [one for one in own if one != "--debug"] + given[len(own) :]
    with signals_heard() as signals:
        try:
            code = _run(given, is_debug=is_debug)
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
    return SIGNALLED + signals[0] if signals and code == INTERRUPTED else code


def _run(arguments: list[str], *, is_debug: bool) -> int:
    """Run one command, and report whatever it raises; return its exit code."""
    try:
        with printed_output():
            code = program().main(arguments, prog_name="darkroom", standalone_mode=False)
            sys.stdout.flush()
    except BrokenPipeError:
        # whoever read us has left; the interpreter's own flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except typer.Abort:
        raise
    except Exception as error:  # noqa: BLE001 - the one place where a command's error becomes a line
        return _report(error, is_debug=is_debug, is_service=arguments[0] in SERVICES)
    return code or DONE


def program() -> Darkroom:
    """Make the program's group of commands."""
    completion_init()
    return Darkroom(
        name="darkroom",
        help="Drain image jobs out of an application's own PostgreSQL tables. Start with `darkroom demo`.",
        context_settings={"help_option_names": list(HELP)},
    )


def _report(error: Exception, *, is_debug: bool, is_service: bool) -> int:
    from workers.cli.reporting import explain, logged  # noqa: PLC0415 - needs every package that raises an error of its own

    mask = SecretMask()
    code, line = explain(error)
    if is_debug:
        sys.stderr.write(mask("".join(traceback.format_exception(error))))
    line = " ".join(mask(line).split())
    if not (is_service and logged(line, code)):
        sys.stderr.write(f"darkroom: {line}\n")
    return code


def run() -> NoReturn:
    """Run the command that was typed, as the program's entry point: it ends the process."""
    code = main()
    gc.freeze()  # else the interpreter looks through all that was made once more: a quarter of a command's time
    sys.exit(code)


if __name__ == "__main__":
    run()
