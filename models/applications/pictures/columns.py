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
"""Naming convention of constraints, as Prisma's; with other names its migrations would rename the constraints."""

TIMESTAMP = postgresql.TIMESTAMP(timezone=False, precision=3)
"""UTC without a zone, in ms: asyncpg refuses an aware datetime here, and a zone would shift other clients' times."""

JSON = postgresql.JSONB(none_as_null=True)
"""None is SQL NULL and not JSON `null`, which other clients' filters would not find."""

UTC_NOW = sa.text("(now() AT TIME ZONE 'utc')")
"""The time now in UTC, whatever the session's time zone; CURRENT_TIMESTAMP would store the session's local time."""
