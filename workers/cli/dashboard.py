"""The command dashboard."""

from typing import Annotated

import typer

from config.network_address import Address, parse_address
from workers.cli.failures import DONE
from workers.cli.lazy import later
from workers.cli.opening import open_settings, require_storage, run_async
from workers.services.services import embedded_services

require_allowed = later("workers.cli.migrating:require_allowed")
require_migrated = later("workers.cli.migrating:require_migrated")
run_dashboard = later("workers.dashboard.process:run")


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} {error}") from error


def dashboard(
    address: Annotated[
        Address | None,
        typer.Option(
            "--address",
            parser=_address,
            metavar="HOST:PORT",
            help="Where it listens; port 0 takes a free one. Without it, as DARKROOM_DASHBOARD_ADDRESS says.",
        ),
    ] = None,
) -> int:
    """Run the dashboard.

    It shows and does in a browser what commands show and do. Prints its address and then `ready` once it can be used.
    Who may use it, `darkroom operators` says; as long as there are no operators, everybody on this machine may. Several
    dashboards may run at once. Ctrl-C and SIGTERM stop it.
    """
    settings = open_settings(is_service=True)
    try:
        with embedded_services(settings) as services:
            require_storage(settings, services)
            look = require_migrated if services.is_embedded else require_allowed
            run_async(look(settings, services))
            place = address or parse_address(settings.dashboard_address)
            return int(run_dashboard(settings, services, place, on_ready=announce))
    except KeyboardInterrupt:
        return DONE


def announce(address: Address) -> None:
    """Print where the dashboard is, and that it can be used."""
    print_place(address)
    typer.echo("ready")


def print_place(address: Address) -> None:
    """Print where the dashboard is."""
    typer.echo(f"dashboard at http://{address}/")
