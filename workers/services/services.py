"""The services that a command uses: those the environment names, or embedded ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pipelines.settings import Settings
from workers.services.instance import EmbeddedInstance

# Folders under DARKROOM_HOME
EMBEDDED_FOLDER: Final = "embedded"
OBJECTS_FOLDER: Final = "objects"


@dataclass(frozen=True, slots=True)
class Services:
    """URLs of all services. URLs contain passwords, so the repr shows none.

    Attributes:
        redis_url: of Redis; empty where the broker is RabbitMQ and no Redis is named.
        users_lock: the descriptor by which this process is a user of the embedded services; a child that inherits it
            is a user, too.
    """

    database_url: str = field(repr=False)
    database_direct_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    storage_url: str
    is_embedded: bool
    users_lock: int | None = field(default=None, repr=False)


@contextmanager
def embedded_services(settings: Settings) -> Iterator[Services]:
    """Use the services for as long as the context lasts; yield their URLs. A process may do so several times at once.

    With DATABASE_URL set, and REDIS_URL or BROKER_URL, nothing is started, and their values are used.

    Raises:
        EmbeddedServiceError: an embedded service can't be started.
    """
    storage_url = settings.storage_url or (settings.home / OBJECTS_FOLDER).as_uri()
    broker_url = settings.broker_url or settings.redis_url
    if settings.database_url is not None and broker_url is not None:
        yield Services(
            database_url=settings.database_url,
            database_direct_url=settings.database_direct_url or settings.database_url,
            redis_url=settings.redis_url or "",
            broker_url=broker_url,
            storage_url=storage_url,
            is_embedded=False,
        )
        return
    with EmbeddedInstance(settings.home / EMBEDDED_FOLDER) as instance:
        yield Services(
            database_url=instance.database_url,
            database_direct_url=instance.database_url,
            redis_url=instance.redis_url,
            broker_url=settings.broker_url or instance.redis_url,
            storage_url=storage_url,
            is_embedded=True,
            users_lock=instance.users_lock,
        )
