"""The server of metrics and health that a command's process runs beside its work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipelines.settings import Settings, variable_name
from workers.cli.failures import CommandUsageError
from workers.cli.lazy import later
from workers.metrics.families import Source
from workers.metrics.listening import AddressError, listen

if TYPE_CHECKING:
    from workers.metrics.serving import Serving

make_serving = later("workers.metrics.serving:Serving")


@contextmanager
def metrics_served(settings: Settings, *sources: Source) -> "Iterator[Serving | None]":
    """Serve metrics and health for as long as the context lasts; yield None if DARKROOM_METRICS_ADDRESS is unset.

    `sources` are the kinds of processes that the command runs.

    Raises:
        CommandUsageError: the address can't be listened at.
    """
    if settings.metrics_address is None:
        yield None
        return
    try:
        listener = listen(settings.metrics_address, variable_name("metrics_address"))
    except AddressError as error:
        raise CommandUsageError(str(error)) from error
    with make_serving(listener, settings.api_token, sources) as serving:
        yield serving
