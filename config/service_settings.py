"""Settings of the services that Darkroom uses: PostgreSQL, Redis, the broker, the storage, and its own folder."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from config.setting_group import SettingGroup, contract_field
from config.setting_types import (
    AbsolutePath,
    BrokerUrlText,
    PostgresUrlText,
    PublicUrlText,
    RedisUrlText,
    StorageUrlText,
)

LEAST_CONNECTIONS: Final = 2
"""Fewest PostgreSQL connections of a process: one outside the pool for the lease or LISTEN, and one in the pool."""

MOST_BESIDE_WORKERS: Final = 4
"""Most PostgreSQL connections of a scheduler or a command, even where a worker may have more."""


class ServiceSettings(SettingGroup):
    """Where the services are, and how many PostgreSQL connections a process may hold."""

    database_url: PostgresUrlText | None = contract_field(
        "DATABASE_URL",
        None,
        "PostgreSQL, postgresql://user:password@host:port/name; host= may name a socket, sslmode works, and so "
        "does a transaction pooler. Unset: an embedded PostgreSQL under DARKROOM_HOME",
    )
    database_direct_url: PostgresUrlText | None = contract_field(
        "DATABASE_DIRECT_URL",
        None,
        "The same database without a pooler, for LISTEN, prepared statements, migrations. Unset: DATABASE_URL",
    )
    redis_url: RedisUrlText | None = contract_field(
        "REDIS_URL",
        None,
        "Redis, redis://, rediss:// or unix:///path; it holds wake-ups, never jobs. Unset: an embedded Redis, or none "
        "where DATABASE_URL and BROKER_URL are set",
    )
    broker_url: BrokerUrlText | None = contract_field(
        "BROKER_URL", None, "What carries wake-ups: redis://, unix:// or amqp:// (RabbitMQ). Unset: REDIS_URL"
    )
    storage_url: StorageUrlText | None = contract_field(
        "STORAGE_URL",
        None,
        "Where pictures are stored: file:///path, or s3://bucket/prefix with the standard AWS variables and "
        "AWS_ENDPOINT_URL_S3. Unset: files under DARKROOM_HOME",
    )
    storage_public_url: PublicUrlText | None = contract_field(
        "STORAGE_PUBLIC_URL",
        None,
        "Beginning of the URLs that are written to rows; required with s3:, since presigned URLs expire. Unset: "
        "file: URLs",
    )
    home: AbsolutePath = Field(
        default=Path("~/.darkroom"),
        description="Folder of the data of embedded services, and of pictures that are stored as files",
    )
    connections: Annotated[int, Field(ge=LEAST_CONNECTIONS)] = Field(
        default=5,
        description="PostgreSQL connections that a process may hold at once, with that of its lease or LISTEN, at "
        "least "
        f"{LEAST_CONNECTIONS}; schedulers and commands take at most {MOST_BESIDE_WORKERS} of them, a dashboard all",
    )

    @model_validator(mode="after")
    def _no_embedded_half(self) -> Self:
        if self.database_url and not (self.redis_url or self.broker_url):
            raise ValueError(
                "DATABASE_URL is set but REDIS_URL is not, nor BROKER_URL; set one of them, or none of the three "
                "for the embedded services"
            )
        if self.redis_url and not self.database_url:
            raise ValueError("REDIS_URL is set but DATABASE_URL is not; set both, or neither for the embedded services")
        if self.database_direct_url and not self.database_url:
            raise ValueError("DATABASE_DIRECT_URL is set but DATABASE_URL is not; set both")
        return self

    @model_validator(mode="after")
    def _no_private_url(self) -> Self:
        if self.storage_url and self.storage_url.startswith("s3:") and not self.storage_public_url:
            raise ValueError(
                "STORAGE_URL is s3: but STORAGE_PUBLIC_URL is not set; give the prefix that pictures are seen at"
            )
        return self

    @property
    def is_embedded(self) -> bool:
        """Whether PostgreSQL and Redis are embedded: started by Darkroom itself."""
        return self.database_url is None
