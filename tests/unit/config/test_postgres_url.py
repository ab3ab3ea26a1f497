"""PostgreSQL URLs in the forms that other programs write."""

import ssl
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from config.postgres_url import PostgresUrlError, parse_postgres_url


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("postgres://h/d", {"host": "h", "port": 5432, "database": "d"}),
        (
            "postgresql://u:p@h:6543/d",
            {"host": "h", "port": 6543, "user": "u", "password": "p", "database": "d"},
        ),
        (
            "postgres://u%40x:p%2F%3A%23%25@h/d%20b",
            {"host": "h", "port": 5432, "user": "u@x", "password": "p/:#%", "database": "d b"},
        ),
        ("postgres://u:p@ss@h/d", {"host": "h", "port": 5432, "user": "u", "password": "p@ss", "database": "d"}),
        ("postgres://[::1]:5433/d", {"host": "::1", "port": 5433, "database": "d"}),
        ("postgres:///d?host=/var/run/pg", {"host": "/var/run/pg", "port": 5432, "database": "d"}),
        (
            "postgres://u@/d?host=/a%20b&port=5433&sslmode=require",
            {"host": "/a b", "port": 5433, "user": "u", "database": "d"},
        ),
        ("postgres://u@%2FVar%2Frun/d", {"host": "/Var/run", "port": 5432, "user": "u", "database": "d"}),
        (
            "postgres://ignored/d?host=h&user=u&password=p&dbname=e",
            {"host": "h", "port": 5432, "user": "u", "password": "p", "database": "e"},
        ),
        ("postgres://h/d?sslmode=require", {"host": "h", "port": 5432, "database": "d", "ssl": "require"}),
        ("postgres://h/d?sslmode=no-verify", {"host": "h", "port": 5432, "database": "d", "ssl": "require"}),
        ("postgres://h/d?ssl=true", {"host": "h", "port": 5432, "database": "d", "ssl": "require"}),
        ("postgres://h/d?sslmode=disable", {"host": "h", "port": 5432, "database": "d", "ssl": "disable"}),
        (
            "postgres://h/d?application_name=api&options=-c%20lock_timeout%3D1s&connect_timeout=5",
            {
                "host": "h",
                "port": 5432,
                "database": "d",
                "timeout": 5,
                "server_settings": {"application_name": "api", "options": "-c lock_timeout=1s"},
            },
        ),
        ("postgres://h/d?pgbouncer=true", {"host": "h", "port": 5432, "database": "d", "statement_cache_size": 0}),
        (
            "postgres://ep-x-pooler.eu.neon.tech/d?sslmode=verify-full",
            {
                "host": "ep-x-pooler.eu.neon.tech",
                "port": 5432,
                "database": "d",
                "ssl": "verify-full",
                "statement_cache_size": 0,
            },
        ),
    ],
)
def test_postgres_url_becomes_asyncpg_arguments(text: str, arguments: dict[str, object]) -> None:
    url = parse_postgres_url(text)

    arguments = {"timeout": 5.0} | arguments  # no host is waited for as long as asyncpg would
    assert url.asyncpg_arguments() == arguments
    assert parse_postgres_url(url.text()).asyncpg_arguments() | {"statement_cache_size": 0} == arguments | {
        "statement_cache_size": 0
    }


def test_postgres_url_of_prisma_and_neon_drops_their_parameters() -> None:
    url = parse_postgres_url(
        "postgres://h/d?schema=public&pgbouncer=true&connection_limit=1&pool_timeout=0&channel_binding=require&x=1"
    )

    assert url.dropped == ("channel_binding", "connection_limit", "pgbouncer", "pool_timeout", "schema", "x")


def test_postgres_url_beside_another_direct_url_is_a_pooler() -> None:
    text = "postgres://h:6543/d"

    assert parse_postgres_url(text, direct_url="postgres://h:5432/d").behind_pooler
    assert not parse_postgres_url(text, direct_url=text).behind_pooler
    assert not parse_postgres_url(text).behind_pooler


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mysql://h/d", "postgresql://"),
        ("h/d", "postgresql://"),
        ("postgres://u:se#cret@h/d", "%23"),
        ("postgres://u:se/cret@h/d", "%2F"),
        ("postgres://h:port/d", "port"),
        ("postgres://h:70000/d", "port"),
        ("postgres://[::1/d", "IPv6"),
        ("postgres://a,b/d", "several hosts"),
        ("postgres://h/d?sslmode=on", "sslmode"),
        ("postgres://h/d?ssl_mode=require", "sslmode"),
        ("postgres://h/d?schema", "name=value"),
        ("postgres://h/d?connect_timeout=soon", "connect_timeout"),
    ],
)
def test_postgres_url_malformed_says_what_to_write(text: str, word: str) -> None:
    with pytest.raises(PostgresUrlError) as caught:
        parse_postgres_url(text)

    assert word in str(caught.value)
    assert "cret" not in str(caught.value)


def test_postgres_url_with_system_certificates_verifies_the_name() -> None:
    context = parse_postgres_url("postgres://h/d?sslmode=require&sslrootcert=system").asyncpg_arguments()["ssl"]

    assert isinstance(context, ssl.SSLContext)
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_postgres_url_with_missing_certificate_names_the_file() -> None:
    with pytest.raises(PostgresUrlError, match=r"/nowhere/root\.crt"):
        parse_postgres_url("postgres://h/d?sslmode=verify-ca&sslrootcert=/nowhere/root.crt").asyncpg_arguments()


def test_postgres_url_shown_has_no_password() -> None:
    url = parse_postgres_url("postgres://u:hunter2@h/d")

    assert url.text(with_password=False) == "postgresql://u:***@h:5432/d"
    assert "hunter2" not in repr(url)


async def test_postgres_url_behind_pooler_reaches_asyncpg_through_sqlalchemy(tmp_path: Path) -> None:
    url, arguments = parse_postgres_url(f"postgres://u@/d?host={tmp_path}&pgbouncer=true").sqlalchemy_arguments()
    engine = create_async_engine(url, connect_args=arguments)

    with pytest.raises((FileNotFoundError, ConnectionError, asyncpg.PostgresError)):
        await engine.connect()  # nobody listens there; arguments that asyncpg doesn't know would be a TypeError

    assert arguments["prepared_statement_name_func"]() != arguments["prepared_statement_name_func"]()
    await engine.dispose()


@pytest.mark.parametrize(
    "query",
    [
        "schema=app",
        "currentSchema=app",
        "currentSchema=app,extensions",
        "search_path=app",
        "schema=%22Public%22",
        "options=-c%20search_path%3Dapp",
        "options=-csearch_path%3Dapp%20-c%20lock_timeout%3D1s",
        "options=--search-path%3Dapp,other",
        "options=-c%20search_path%3Dpublic%20-c%20search_path%3Dapp",
    ],
)
def test_postgres_url_that_names_another_schema_is_refused_by_its_name(query: str) -> None:
    with pytest.raises(PostgresUrlError, match=r"names schema '(app|Public)'"):
        parse_postgres_url(f"postgres://h/d?{query}")


@pytest.mark.parametrize(
    "query",
    [
        "schema=public",
        "schema=",
        "currentSchema=public",
        "search_path=%22$user%22,public",
        "options=-c%20search_path%3Dpublic",
        "options=-c%20search_path%3D%22$user%22,%5C%20public",
        "options=-c%20lock_timeout%3D1s",
    ],
)
def test_postgres_url_that_names_public_is_accepted(query: str) -> None:
    assert parse_postgres_url(f"postgres://h/d?{query}").database == "d"
