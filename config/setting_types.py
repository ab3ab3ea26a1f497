"""Types of settings: how the text of an environment variable is parsed into lists, maps and URLs, and checked."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from config.job_terms import MODEL_NAME
from config.postgres_url import parse_postgres_url

Number = int | float
PositiveInt = Annotated[int, Field(gt=0)]
PositiveNumber = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST_S = 1_000_000_000
"""The longest time that a setting may name, 31 years in seconds: sums of more leave the range of dates."""
PositiveSeconds = Annotated[float, Field(gt=0, le=MOST_S, allow_inf_nan=False)]

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def names(value: object) -> object:
    """Parse `a,b` or a JSON list into a tuple of the names, each once, in the given order."""
    if isinstance(value, str):
        value = json_value(value) if value.lstrip().startswith("[") else value.split(",")
    if not isinstance(value, list | tuple):
        return value
    stripped = tuple(str(name).strip() for name in value)
    for name in stripped:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} is not a name; give names of letters, digits, '-', '_', '.' separated by commas"
            )
    if len(set(stripped)) != len(stripped):
        raise ValueError("a name stands twice")
    return stripped


def number_by_name(
    defaults: Mapping[str, Number],
    *,
    only_known: bool = False,
    forbidden: frozenset[str] = frozenset(),
    allowed: frozenset[str] = frozenset(),
    after_slash: bool = False,
) -> Callable[[object], object]:
    """Return a parser of `a=1,b=2` or a JSON object whose entries replace those of `defaults`.

    Args:
        defaults: the numbers of the names that aren't given.
        only_known: refuse names that `defaults` doesn't hold.
        forbidden: names that are always refused.
        allowed: if given, all other names are refused.
        after_slash: names have the form `WHAT/NAME`, and only the NAME has to be in `allowed`.
    """

    def read(value: object) -> object:
        if isinstance(value, str):
            value = json_value(value) if value.lstrip().startswith("{") else _pairs(value)
        if not isinstance(value, Mapping):
            return value
        for name in value:
            if name in forbidden:
                raise ValueError(f"{name} must not be named here")
            if allowed and (name.partition("/")[2] if after_slash else name) not in allowed:
                raise ValueError(f"{name!r} is unknown; known are {', '.join(sorted(allowed))}")
            if only_known and name not in defaults:
                raise ValueError(f"{name!r} is unknown; known are {', '.join(defaults)}")
        return {**defaults, **value}

    return read


def name_by_name(what: str) -> Callable[[object], object]:
    """Return a parser of `a=x,b=y` or a JSON object, whose values are names of what is said, such as `queue`."""

    def read(value: object) -> object:
        if isinstance(value, str):
            return json_value(value) if value.lstrip().startswith("{") else _pairs(value, what)
        return value

    return read


def json_value(text: str) -> object:
    """Parse JSON.

    Raises:
        ValueError: the text isn't JSON; the message says where.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON{_place(error)}") from error


def _place(error: ValueError) -> str:
    """Return the place at which text stops being JSON, as the end of a message; empty if the place isn't known."""
    return f" from its character {error.pos + 1} on" if isinstance(error, json.JSONDecodeError) else ""


def _pairs(text: str, what: str = "number") -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in text.split(","):
        name, equals, number = part.partition("=")
        if not (equals and name.strip() and number.strip()):
            raise ValueError(f"{part.strip()!r} is not name={what}; give name={what},name={what} or a JSON object")
        if name.strip() in pairs:
            raise ValueError(f"{name.strip()} stands twice")
        pairs[name.strip()] = number.strip()
    return pairs


def _postgres_url(value: str) -> str:
    parse_postgres_url(value)
    return value


def url_with_scheme(*schemes: str) -> Callable[[str], str]:
    """Return a check that a URL has one of `schemes`."""

    def check(value: str) -> str:
        scheme, separator, rest = value.partition("://")
        if scheme not in schemes or not separator:
            raise ValueError(f"must begin with {' or '.join(f'{known}://' for known in schemes)}")
        if not rest:
            raise ValueError(f"ends after {scheme}://; what it leads to is missing")
        return value

    return check


def _storage_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme == "file":
        # file://folder/x would name a host "folder" and silently drop it from the path
        if parts.netloc or not parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError("must be file:///absolute/path (three slashes, %3F for '?', %23 for '#')")
    elif parts.scheme == "s3":
        if not parts.netloc or parts.query or parts.fragment:
            raise ValueError("must be s3://bucket or s3://bucket/prefix")
    else:
        raise ValueError("must be file:///path or s3://bucket/prefix")
    return value


def _safe_base_url(value: str) -> str:
    parts = urlsplit(value)
    is_loopback = parts.hostname in LOOPBACK_HOSTS
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback):
        raise ValueError("must be https://; the key travels with each call, so http is for loopback only")
    return value.rstrip("/")


def _public_url(value: str) -> str:
    return url_with_scheme("https", "http", "file")(value).rstrip("/")


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError("must be a column's name: letters, digits and '_', at most 63")
    return value


def _model(value: str) -> str:
    if not MODEL_NAME.fullmatch(value):
        raise ValueError("must be a model's name: letters, digits, '.', '_' and '-', at most 100")
    return value


def _absolute(value: Path) -> Path:
    return value.expanduser().absolute()


PostgresUrlText = Annotated[str, AfterValidator(_postgres_url)]
RedisUrlText = Annotated[str, AfterValidator(url_with_scheme("redis", "rediss", "unix"))]
BrokerUrlText = Annotated[str, AfterValidator(url_with_scheme("redis", "rediss", "unix", "amqp", "amqps"))]
StorageUrlText = Annotated[str, AfterValidator(_storage_url)]
PublicUrlText = Annotated[str, AfterValidator(_public_url)]
BaseUrlText = Annotated[str, AfterValidator(_safe_base_url)]
Names = Annotated[tuple[str, ...], BeforeValidator(names)]
ColumnName = Annotated[str, AfterValidator(_identifier)]
ModelName = Annotated[str, AfterValidator(_model)]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


LEAST_SECRET_CHARS = 32


def _long_enough(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < LEAST_SECRET_CHARS:
        raise ValueError(f"must have at least {LEAST_SECRET_CHARS} characters: openssl rand -hex 32 prints some")
    return value


LongSecret = Annotated[SecretStr, AfterValidator(_long_enough)]
