"""Names of an application's tables and columns as SQL writes them, and names of ours that are made of them."""

import hashlib
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

_ODD: Final = re.compile(r"""['".\\{}$\x00-\x1f\x7f]|--|/\*""")

ODD_IN_WORDS: Final = """must have none of ' " . \\ { } $ -- /* and control characters"""
"""Why a name is refused that our SQL, which has names inside of texts and templates, couldn't have everywhere."""

_MOST_BYTES: Final = 40
"""The bytes of our names for a table: they get prefixes and suffixes, and PostgreSQL cuts names after 63 bytes."""


def is_odd(name: str) -> bool:
    """Return whether a name is refused, as `ODD_IN_WORDS` says. Spaces, upper case and reserved words are no reason."""
    return _ODD.search(name) is not None


def quoted_name(name: str) -> str:
    """Return a name as SQL writes it, in quotes where it needs them."""
    if _PLAIN.fullmatch(name) and name not in _KEYWORDS:
        return name
    return '"' + name.replace('"', '""') + '"'


def relation(schema: str, table: str) -> str:
    """Return a table's name with its schema, as SQL writes it."""
    return f"{quoted_name(schema)}.{quoted_name(table)}"


def base_of(application: str, table: str) -> str:
    """Return the name of a table of an application in names of ours: no other table of any application has it.

    It is `frames_orders` where that is short and can mean no other table, and ends in a hash otherwise.
    """
    plain = f"{application}_{table}"
    if "_" not in application and _PLAIN.fullmatch(table) and len(plain) <= _MOST_BYTES:
        return plain
    return f"{application}_{hashlib.sha256(f'{application} {table}'.encode()).hexdigest()[:8]}"
