"""Names of an application's tables and columns as SQL writes them, and names of ours that are made of them."""

import hashlib
import re
from typing import Final

from models.job_tables.quoting import is_plain, quoted_name

_ODD: Final = re.compile(r"""['".\\{}$\x00-\x1f\x7f]|--|/\*""")

ODD_IN_WORDS: Final = """must have none of ' " . \\ { } $ -- /* and control characters"""
"""Why a name is refused that our SQL, which has names inside of texts and templates, couldn't have everywhere."""

_MOST_BYTES: Final = 40
"""The bytes of our names for a table: they get prefixes and suffixes, and PostgreSQL cuts names after 63 bytes."""


def is_odd(name: str) -> bool:
    """Return whether a name is refused, as `ODD_IN_WORDS` says. Spaces, upper case and reserved words are no reason."""
    return _ODD.search(name) is not None


def relation(schema: str, table: str) -> str:
    """Return a table's name with its schema, as SQL writes it."""
    return f"{quoted_name(schema)}.{quoted_name(table)}"


def base_of(application: str, table: str) -> str:
    """Return the name of a table of an application in names of ours: no other table of any application has it.

    It is `frames_orders` where that is short and can mean no other table, and ends in a hash otherwise.
    """
    plain = f"{application}_{table}"
    if "_" not in application and is_plain(table) and len(plain) <= _MOST_BYTES:
        return plain
    return f"{application}_{hashlib.sha256(f'{application} {table}'.encode()).hexdigest()[:8]}"
