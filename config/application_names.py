"""The entries of DARKROOM_APPLICATION: shipped applications and files, each with the schema of its tables."""

import re
from typing import Final

from config.values import value

DEFAULT_SCHEMA: Final = "public"
SUFFIX: Final = ".toml"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")


@value
class Entry:
    """One entry: a shipped application by its `name`, or a file by its `path`; the other one is empty.

    `text` is the entry as it was given, without a schema that is `public` anyway.
    """

    text: str
    name: str
    path: str
    schema: str


def parse_entry(text: str) -> Entry:
    """Parse `NAME`, `NAME@SCHEMA`, or the path of a `.toml` file, also with `@SCHEMA`.

    Raises:
        ValueError: it is none of these.
    """
    what, at, schema = text.strip().rpartition("@")
    if not at or "/" in schema or schema.endswith(SUFFIX):  # an @ may stand in a path
        what, schema = text.strip(), DEFAULT_SCHEMA
    is_file = what.endswith(SUFFIX)
    if not schema or "\0" in schema or not (is_file or _NAME.fullmatch(what)):
        raise ValueError(f"{text.strip()[:200]!r} is no NAME, NAME@SCHEMA or path of a .toml file")
    named = what if schema == DEFAULT_SCHEMA else f"{what}@{schema}"
    return Entry(text=named, name="" if is_file else what, path=what if is_file else "", schema=schema)


def parse_entries(value: object) -> object:
    """Parse `a,b@shop,/etc/darkroom/frames.toml` into a tuple of texts, as pydantic's validators do."""
    if isinstance(value, str):
        value = [part for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        return value
    entries = tuple(parse_entry(str(part)).text for part in value)
    if len(set(entries)) != len(entries):
        raise ValueError("an application stands twice")
    if not entries:
        raise ValueError("it names no application")
    return entries
