"""Functions with which the revisions of the application branch declare columns, keys and types.

Released revisions use these: functions may be added here, but none may be changed.
"""

from collections.abc import Mapping
from typing import TypeVar

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

Value = TypeVar("Value")

TEXT = sa.Text()
INTEGER = sa.Integer()
BOOLEAN = sa.Boolean()
DOUBLE: sa.Double[float] = sa.Double()
JSONB = postgresql.JSONB()
TIMESTAMP = postgresql.TIMESTAMP(timezone=False, precision=3)

UTC_NOW = "(now() AT TIME ZONE 'utc')"
"""The time now in UTC, whatever the session's time zone; CURRENT_TIMESTAMP would store the session's local time."""


def enum(name: str) -> postgresql.ENUM:
    """Return an enum type that `create_enums` has made; creating a table with it doesn't create the type again."""
    return postgresql.ENUM(name=name, create_type=False)


def column(
    name: str, type_: sa.types.TypeEngine[Value], *, null: bool = False, default: str | None = None
) -> sa.Column[Value]:
    """Return a column, which is NOT NULL unless said otherwise; `default` is an SQL expression."""
    return sa.Column(name, type_, nullable=null, server_default=None if default is None else sa.text(default))


def foreign_key(name: str, column_name: str, target: str, *, ondelete: str) -> sa.ForeignKeyConstraint:
    """Return a foreign key on one column; all of the application's keys follow a change of the referenced key."""
    return sa.ForeignKeyConstraint([column_name], [target], name=name, ondelete=ondelete, onupdate="CASCADE")


def create_enums(labels: Mapping[str, tuple[str, ...]]) -> None:
    """Create enum types, with their labels in the given order."""
    for name, values in labels.items():
        postgresql.ENUM(*values, name=name).create(op.get_bind(), checkfirst=False)


def drop_enums(labels: Mapping[str, tuple[str, ...]]) -> None:
    """Drop enum types. Fails while a column still uses one."""
    for name, values in labels.items():
        postgresql.ENUM(*values, name=name).drop(op.get_bind(), checkfirst=False)
