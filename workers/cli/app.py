"""The program `darkroom`: its commands, and what becomes of whatever they raise."""

# ruff: noqa: PLC0415 - what is heavy is imported by whoever needs it, so that --help is there at once

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import Annotated

import typer

from workers.cli import (
    costs,
    database,
    demo,
    diagnostics,
    enhance,
    generate,
    jobs,
    pipelines,
    processes,
    queues,
    schedule,
    tokens,
)
from workers.cli.failures import DONE, INTERRUPTED, SIGNALLED, explain

app = typer.Typer(
    name="darkroom",
    help="Drain image jobs out of an application's own PostgreSQL tables. Start with `darkroom demo`.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order in which --help lists them
for command in (
    demo.demo,
    enhance.enhance,
    generate.generate,
    generate.modify,
    processes.up,
    processes.worker,
    processes.scheduler,
):
    app.command()(command)
for group, name in (
    (jobs.app, "jobs"),
    (queues.app, "queue"),
    (pipelines.app, "pipelines"),
    (tokens.app, "tokens"),
    (schedule.app, "schedule"),
    (database.app, "db"),
):
    app.add_typer(group, name=name)
for command in (diagnostics.config, diagnostics.doctor, costs.costs):
    app.command()(command)


@app.callback()
def options(*, debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Take the options of every command; `main` acts on them, and here they are seen in --help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    own = given[: given.index("--")] if "--" in given else given
    is_debug = "--debug" in own  # wherever it stands, as one adds it after an error
    given = [one for one in own if one != "--debug"] + given[len(own) :]
    signals: list[int] = []

    def terminate(number: int, _frame: FrameType | None) -> None:
        """Leave as with Ctrl-C, so that embedded services and workers of ours are stopped in order."""
        signals.append(number)
        signal.raise_signal(signal.SIGINT)

    # a SIGHUP that nohup has us ignore stays ignored
    before = {
        number: signal.signal(number, terminate)
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        code = app(given, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # whoever read us has left; the interpreter's own flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = DONE
    except Exception as error:  # noqa: BLE001 - the one place where a command's error becomes a line
        code = _report(error, is_debug=is_debug)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return SIGNALLED + signals[0] if signals and code == INTERRUPTED else (code or DONE)


def _report(error: Exception, *, is_debug: bool) -> int:
    from config.masking import SecretMask

    mask = SecretMask()
    code, line = explain(error)
    if is_debug:
        sys.stderr.write(mask("".join(traceback.format_exception(error))))
    sys.stderr.write("darkroom: " + " ".join(mask(line).split()) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
