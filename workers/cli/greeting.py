"""The text that `darkroom up` prints for people once everything runs: where the data is, what runs, and how to stop."""

from urllib.parse import urlsplit

import typer

from config.postgres_url import parse_postgres_url
from pipelines.settings import Settings
from workers.cli.tables import print_fields
from workers.cli.version import version
from workers.presentation.values import count_of
from workers.services.services import Services


def greet(settings: Settings, services: Services, *, processes: int, lanes: int, queues: str) -> None:
    """Print the greeting.

    Args:
        settings: of the environment.
        services: the services in use.
        processes: number of worker processes that run.
        lanes: jobs at once in each.
        queues: the queues from which they claim.
    """
    own = " (its own)" if services.is_embedded else ""
    print_fields(
        {
            "darkroom": f"{version()} works",
            "data": settings.home if services.is_embedded else "",
            "postgresql": parse_postgres_url(services.database_url).place + own,
            "redis": _place(services.redis_url) + own,
            "broker": "" if services.broker_url == services.redis_url else _place(services.broker_url),
            "objects": services.storage_url,
            "workers": f"{processes}, each with {count_of(lanes, 'lane')}, from queue {queues}",
            "scheduler": "1, in this process",
            "provider": ", ".join(settings.providers),
        }
    )
    typer.echo("Ctrl-C stops all of it; `darkroom` elsewhere shows the state of things")


def _place(url: str) -> str:
    """Return host and port of a URL, or the path of its socket; nothing else, as the URL may contain a password."""
    parts = urlsplit(url)
    return parts.netloc.rpartition("@")[2] or parts.path
