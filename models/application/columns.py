"""The metadata of the application's tables, and the column types that they share."""

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)
"""The names that Prisma gives; another name would make its migrations rename the thing."""

TIMESTAMP = postgresql.TIMESTAMP(timezone=False, precision=3)
"""Naive UTC in milliseconds: asyncpg refuses an aware datetime here, and a zone would shift what other clients read."""

JSON = postgresql.JSONB(none_as_null=True)
"""None is SQL NULL and not JSON `null`, which other clients' filters would not find."""

UTC_NOW = sa.text("(now() AT TIME ZONE 'utc')")
"""UTC whatever the session's time zone; CURRENT_TIMESTAMP would store the session's local time."""
