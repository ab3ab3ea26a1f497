"""Sequences of our schema that are behind the ids in their tables, as after a switch by logical replication."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

# A sequence numbers a column that owns it (identity, serial, OWNED BY), or whose default calls it. A partition uses its
# parent's.
_SEQUENCES: Final = text("""
    SELECT DISTINCT format('darkroom.%I', s.relname) AS sequence, format('darkroom.%I', t.relname) AS table_name,
           quote_ident(a.attname) AS column_name
    FROM pg_class s
    JOIN pg_sequence q ON q.seqrelid = s.oid AND q.seqincrement > 0
    JOIN pg_depend d ON s.oid IN (d.objid, d.refobjid)
        AND ((d.classid = 'pg_class'::regclass AND d.objid = s.oid AND d.deptype IN ('a', 'i'))
             OR (d.classid = 'pg_attrdef'::regclass AND d.refobjid = s.oid))
    LEFT JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND f.oid = d.objid
    JOIN pg_class t ON t.oid = coalesce(f.adrelid, d.refobjid) AND NOT t.relispartition
    JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = coalesce(f.adnum, d.refobjsubid)
    WHERE s.relnamespace = 'darkroom'::regnamespace AND s.relkind = 'S' AND t.relnamespace = 'darkroom'::regnamespace
    ORDER BY 1, 2
""")


@dataclass(frozen=True, slots=True)
class SequenceBehind:
    """A sequence whose next number is used already.

    Attributes:
        sequence: its name, with the schema.
        column: the `table.column` that it numbers.
        next_value: the number that it would give next.
        highest: the highest number in the table.
    """

    sequence: str
    column: str
    next_value: int
    highest: int


def sequences_behind(connection: Connection) -> Iterator[SequenceBehind]:
    """Yield the sequences of schema darkroom whose next number isn't above the highest in their column."""
    for sequence, table, column in connection.execute(_SEQUENCES).all():
        first = _next_value(connection, sequence)
        # An index, even a BRIN one, answers this query; for most tables it returns NULL
        highest = connection.scalar(text(f"SELECT max({column}) FROM {table} WHERE {column} >= :next"), {"next": first})
        # The sequence is read again, because other transactions have taken numbers and used them since
        if highest is not None and highest >= (now := _next_value(connection, sequence)):
            yield SequenceBehind(sequence, f"{table}.{column}", now, highest)


def set_past_tables(connection: Connection) -> list[SequenceBehind]:
    """Move every such sequence past its table's ids, in the caller's transaction; return those that were behind."""
    found = list(sequences_behind(connection))
    for one in found:
        connection.execute(
            text("SELECT setval(CAST(:sequence AS regclass), :highest)"),
            {"sequence": one.sequence, "highest": one.highest},
        )
    return found


def _next_value(connection: Connection, sequence: str) -> int:
    """Return the number that a sequence would give next.

    If it gave none yet and the role may use it but not read it, return 1.
    """
    if connection.scalar(text("SELECT has_sequence_privilege(:name, 'SELECT')"), {"name": sequence}):
        value = f"SELECT CASE WHEN is_called THEN last_value + 1 ELSE last_value END FROM {sequence}"
    else:
        value = f"SELECT coalesce(pg_sequence_last_value('{sequence}'::regclass), 0) + 1"
    return int(connection.scalar(text(value)) or 1)
