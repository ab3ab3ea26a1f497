"""The command config: every setting."""

import textwrap
from dataclasses import asdict
from typing import Final

import typer

from pipelines.settings_table import describe
from workers.cli.failures import DONE
from workers.cli.opening import known_settings
from workers.cli.output import console, print_json
from workers.cli.parameters import Json
from workers.cli.tables import Column, print_table

WIDE_FROM: Final = 110
"""Width of the terminal, in characters, from which on four columns of text fit beside each other."""


def config(*, as_json: Json = False) -> int:
    """Show every setting, its value and its meaning.

    The values of secrets are masked.
    """
    rows = describe(known_settings())
    if as_json:
        print_json([asdict(row) for row in rows])
        return DONE
    screen = console()
    # in a narrower terminal four columns would be a word wide each
    if not screen.is_terminal or screen.width < WIDE_FROM:
        for row in rows:
            default = f"  (default {row.default})" if row.default != row.value and row.default else ""
            typer.secho(f"{row.name}={row.value}", bold=row.is_set, nl=False)
            typer.echo(default)
            _wrapped(row.meaning, min(screen.width, WIDE_FROM))
        return DONE
    columns = [
        Column("name", lambda row: row.name),
        Column("value", lambda row: row.value, may_wrap=True),
        Column("default", lambda row: "" if row.default == row.value else row.default, may_wrap=True),
        Column("meaning", lambda row: row.meaning, may_wrap=True),
    ]
    print_table(rows, columns, empty="")
    return DONE


def _wrapped(text: str, width: int) -> None:

    typer.echo(textwrap.fill(text, width, initial_indent="    ", subsequent_indent="    "))
