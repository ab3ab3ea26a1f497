"""Names of schemas, tables and columns as SQL writes them."""

import re
from typing import Final

_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)

_KEYWORDS: Final = """
all analyse analyze and any array as asc asymmetric authorization between bigint binary bit boolean both case cast
char character check coalesce collate collation column concurrently constraint create cross current_catalog
current_date current_role current_schema current_time current_timestamp current_user dec decimal default deferrable
desc distinct do else end except exists extract false fetch float for foreign freeze from full grant greatest group
grouping having ilike in initially inner inout int integer intersect interval into is isnull join json json_array
json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize json_table json_value
lateral leading least left like limit localtime localtimestamp merge_action national natural nchar none normalize
not notnull null nullif numeric offset on only or order out outer overlaps overlay placing position precision
primary real references returning right row select session_user setof similar smallint some substring symmetric
system_user table tablesample then time timestamp to trailing treat trim true union unique user using values
varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest
xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable
""".split()  # noqa: SIM905 - a list of so many words would have a line for each
"""What PostgreSQL 13 to 18 reserve, or allow for some names only (pg_get_keywords, categories R, T and C)."""


def is_plain(name: str) -> bool:
    """Return whether a name has only lower-case ASCII letters, digits and underscores, and begins with no digit."""
    return _PLAIN.fullmatch(name) is not None


def quoted_name(name: str) -> str:
    """Return a name as SQL writes it, in quotes where it needs them."""
    if is_plain(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'
