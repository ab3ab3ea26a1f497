"""The command version, and the version that is installed."""

import importlib.metadata

import typer

from workers.cli.failures import DONE


def version() -> str:
    """Return the version that is installed."""
    return importlib.metadata.version("darkroom")


def show() -> int:
    """Print the version."""
    typer.echo(f"darkroom {version()}")
    return DONE
