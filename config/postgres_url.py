"""Parsing of PostgreSQL URLs as other programs write them, and their form for asyncpg, SQLAlchemy and psql."""

import difflib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode
from uuid import uuid4

SCHEMES: Final = ("postgres", "postgresql")
DEFAULT_PORT: Final = 5432
CONNECT_S: Final = 5.0
"""Time limit of opening a connection where the URL has no connect_timeout: a host may accept and never answer."""

# Parameters that repeat what the URL itself can say. As in libpq, the parameter wins.
_PARTS: Final = ("host", "port", "user", "password", "dbname")
_TLS: Final = ("sslmode", "sslrootcert", "sslcert", "sslkey")
_SESSION: Final = ("application_name", "options")
_KNOWN: Final = (*_PARTS, *_TLS, *_SESSION, "connect_timeout", "ssl", "pgbouncer")
# Parameters of other programs (Prisma, Neon, SQLAlchemy, node-postgres, JDBC, libpq's rarer ones). They are listed so
# that the check for misspellings doesn't take one for ours. Any other unknown parameter is dropped as well.
_FOREIGN: Final = frozenset(
    {
        "schema", "connection_limit", "pool_timeout", "pool_size", "max_overflow", "statement_cache_size",
        "socket_timeout", "sslaccept", "sslidentity", "sslpassword", "channel_binding", "gssencmode",
        "target_session_attrs", "keepalives", "keepalives_idle", "single_use_connections", "uselibpqcompat",
        "prepared_statement_cache_size", "async_fallback", "currentSchema", "sslnegotiation", "sslcrl",
    }
)  # fmt: skip
# Parameters that name the schema of the application's tables: Prisma's, JDBC's, and the search path of a session as
# Go's drivers and libpq's options set it.
_SCHEMAS: Final = ("schema", "currentSchema", "search_path")
_SEARCH_PATH_OPTION: Final = re.compile(r"(?:-c\s*|--)search[_-]path=((?:\\.|[^\s\\])*)")
OUR_SCHEMA: Final = "public"
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
# node-postgres: `ssl=true` and `sslmode=no-verify` ask for TLS without a check of the certificate.
_SSL_SYNONYMS: Final = {"true": "require", "1": "require", "false": "disable", "0": "disable", "no-verify": "require"}


class PostgresUrlError(ValueError):
    """Raised when a PostgreSQL URL can't be used. The message never repeats the URL, which holds a password."""


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """Where a PostgreSQL is and how to reach it.

    Attributes:
        host: name, address, or the absolute folder of a unix socket; None leaves it to the driver.
        sslmode: libpq's word; None means libpq's default, which is `prefer`, and no TLS on a unix socket.
        behind_pooler: the server may be a transaction pooler, where prepared statements and LISTEN don't last.
        dropped: names of the parameters that were not understood and are not passed on.
    """

    host: str | None = None
    port: int = DEFAULT_PORT
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    sslmode: str | None = None
    tls_files: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: int | None = None
    behind_pooler: bool = False
    dropped: tuple[str, ...] = ()

    @property
    def is_socket(self) -> bool:
        """Whether the server is reached by a unix socket, where TLS isn't used."""
        return self.host is not None and self.host.startswith("/")

    def with_database(self, database: str) -> "PostgresUrl":
        """Return a copy that names another database of the same server."""
        return replace(self, database=database)

    def asyncpg_arguments(self) -> dict[str, Any]:
        """Return the keyword arguments for `asyncpg.connect` and `asyncpg.create_pool`."""
        arguments: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": self.database,
            "ssl": None if self.is_socket else self._ssl(),
            "timeout": CONNECT_S if self.connect_timeout_s is None else self.connect_timeout_s,
            "server_settings": dict(self.session) or None,
        }
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if self.behind_pooler:
            arguments["statement_cache_size"] = 0
        return arguments

    def sqlalchemy_arguments(self) -> tuple[str, dict[str, Any]]:
        """Return the URL and `connect_args` for `create_async_engine`.

        The URL names only dialect and driver. What a URL of SQLAlchemy can't express (sockets, TLS, timeouts) and the
        password stand in `connect_args`, which no log prints.
        """
        arguments = self.asyncpg_arguments()
        # A pooler may be there without the URL saying so. So no statement is prepared to last, and because SQLAlchemy
        # prepares by name whatever asyncpg's cache is, the names that two clients use must differ.
        arguments["statement_cache_size"] = 0
        arguments["prepared_statement_cache_size"] = 0
        arguments["prepared_statement_name_func"] = lambda: f"__darkroom_{uuid4()}__"
        return "postgresql+asyncpg://", arguments

    @property
    def place(self) -> str:
        """Return where the server is, for people: host and port, or the folder of its socket and the port."""
        return f"{self.host or 'the default host'}:{self.port}"

    def text(self, *, with_password: bool = True) -> str:
        """Return the URL in the form that libpq and psql read, without the password if the text is for people."""
        login = quote(self.user or "", safe="")
        if self.password is not None:
            login += ":" + (quote(self.password, safe="") if with_password else "***")
        query = {**self.tls_files, **self.session}
        if self.sslmode:
            query["sslmode"] = self.sslmode
        if self.connect_timeout_s is not None:
            query["connect_timeout"] = str(self.connect_timeout_s)
        place = ""
        if self.is_socket:
            query["host"] = self.host or ""
            if self.port != DEFAULT_PORT:
                query["port"] = str(self.port)
        elif self.host:
            place = (f"[{self.host}]" if ":" in self.host else self.host) + f":{self.port}"
        at = "@" if login else ""
        return (
            f"postgresql://{login}{at}{place}/{quote(self.database or '', safe='')}"
            f"{'?' if query else ''}{urlencode(query, quote_via=quote, safe='/')}"
        )

    def _ssl(self) -> str | ssl.SSLContext | None:
        if not self.tls_files or self.sslmode in {"disable", "allow", "prefer"}:
            return self.sslmode  # asyncpg accepts libpq's values of sslmode, and reads ~/.postgresql/root.crt by itself
        root = self.tls_files.get("sslrootcert")
        try:
            context = ssl.create_default_context(cafile=None if root in {None, "system"} else root)
            if "sslcert" in self.tls_files:
                context.load_cert_chain(self.tls_files["sslcert"], self.tls_files.get("sslkey"))
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(f"{name}={path}" for name, path in self.tls_files.items())
            raise PostgresUrlError(f"cannot load {named}: {error.strerror or error}") from error
        # As in libpq: if there is a root certificate, `require` also checks the certificate's chain; only verify-full
        # checks the host's name.
        context.check_hostname = self.sslmode == "verify-full" or root == "system"
        if root is None and self.sslmode in {None, "require"}:
            context.verify_mode = ssl.CERT_NONE
        return context


def parse_postgres_url(text: str, *, direct_url: str | None = None) -> PostgresUrl:
    """Read a `postgres://` or `postgresql://` URL.

    Args:
        text: the URL; parts and parameters are percent-encoded, `host=` and an encoded host may name a socket's folder.
        direct_url: the value of DATABASE_DIRECT_URL; if it differs from `text`, `text` is taken for a pooler's URL.

    Raises:
        PostgresUrlError: the text isn't such a URL; the message says which part is wrong and what to write.
    """
    scheme, separator, rest = text.strip().partition("://")
    if scheme not in SCHEMES or not separator:
        raise PostgresUrlError("must begin with postgresql:// or postgres://")
    if "#" in rest:
        raise PostgresUrlError("has a '#'; in a user name or password write it as %23")
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    login, _, place = authority.rpartition("@")
    user, colon, password = login.partition(":")
    host, port = _host_and_port(place)
    given = _parameters(query)
    _require_public_schema(given)
    host = given.get("host") or host
    if host is not None and "," in host:
        raise PostgresUrlError("names several hosts; give one")
    sslmode = _sslmode(given)
    if given.get("sslrootcert") == "system" and sslmode in {None, "require", "verify-ca"}:
        sslmode = "verify-full"  # libpq accepts nothing weaker with the system's root certificates
    return PostgresUrl(
        host=host,
        port=_whole_number("port", given.get("port") or port or str(DEFAULT_PORT), most=65535),
        user=given.get("user") or unquote(user) or None,
        password=given.get("password") or (unquote(password) if colon else None),
        database=given.get("dbname") or unquote(path) or None,
        sslmode=sslmode,
        tls_files={name: given[name] for name in _TLS[1:] if given.get(name)},
        session={name: given[name] for name in _SESSION if given.get(name)},
        connect_timeout_s=_whole_number("connect_timeout", given["connect_timeout"], most=86400)
        if given.get("connect_timeout")
        else None,
        behind_pooler=_is_pooler(host, given) or (direct_url is not None and direct_url != text),
        dropped=tuple(sorted(given.keys() - set(_KNOWN) | given.keys() & {"pgbouncer"})),
    )


def _host_and_port(place: str) -> tuple[str | None, str | None]:
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise PostgresUrlError("has an IPv6 address that isn't written as [address]:port")
        return host, port[1:] or None
    host, _, port = place.partition(":")
    return unquote(host) or None, port or None


def _parameters(query: str) -> dict[str, str]:
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)))
    except ValueError as error:
        raise PostgresUrlError("has a parameter without '='; write name=value&name=value") from error
    if "database" in given:
        given.setdefault("dbname", given.pop("database"))
    for name in given.keys() - set(_KNOWN) - _FOREIGN:
        # if a misspelt sslmode were dropped, the password would be sent unencrypted
        if meant := difflib.get_close_matches(name.lower(), _KNOWN, n=1, cutoff=0.85):
            raise PostgresUrlError(f"has an unknown parameter {name!r}; did you mean {meant[0]!r}?")
    return given


def _require_public_schema(given: Mapping[str, str]) -> None:
    """Refuse a URL whose application tables aren't in schema public: our tables would be made in the wrong schema."""
    named = {name: given[name] for name in _SCHEMAS if given.get(name)}
    if found := _SEARCH_PATH_OPTION.findall(given.get("options", "")):
        named["options"] = re.sub(r"\\(.)", r"\1", found[-1])  # as in the server, the last one is used
    for name, value in named.items():
        schemas = [part.strip().strip('"') for part in value.split(",")]
        schemas = [part for part in schemas if part not in {"", "$user"}]
        if schemas and OUR_SCHEMA not in schemas:
            raise PostgresUrlError(
                f"names schema {schemas[0]!r} ({name}): another schema than {OUR_SCHEMA} isn't supported yet; leave it "
                f"out if the application's tables are in {OUR_SCHEMA}"
            )


def _sslmode(given: Mapping[str, str]) -> str | None:
    mode = given.get("sslmode") or given.get("ssl") or None
    mode = _SSL_SYNONYMS.get(mode, mode) if mode else None
    if mode is not None and mode not in _SSL_MODES:
        raise PostgresUrlError(f"has sslmode={mode!r}; known are {', '.join(_SSL_MODES)}")
    return mode


def _is_pooler(host: str | None, given: Mapping[str, str]) -> bool:
    # `-pooler.` is how Neon names its pooled endpoints (its connection guide, read 2026-11-20)
    return given.get("pgbouncer") == "true" or (host is not None and "-pooler." in host)


def _whole_number(name: str, text: str, *, most: int) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= most):
        raise PostgresUrlError(
            f"has {name} {text!r}, not a number from 1 to {most}; '@', ':' and '/' in a password are %40, %3A and %2F"
        )
    return int(text)
