"""Roles that `db upgrade` granted rights to, and how these are taken from them again."""

from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from config.tiers import PRICES_TOKENS
from models.schema import migrate
from models.schema.migrations.errors import RoleNotGrantedError
from models.schema.migrations.grants import PRODUCERS

MAY_CALL = """
    SELECT coalesce(array_agg(p.proname::text ORDER BY 1), '{}') FROM pg_proc p
    WHERE p.pronamespace = 'darkroom'::regnamespace AND has_schema_privilege($1, 'darkroom', 'USAGE')
      AND has_function_privilege($1, p.oid, 'EXECUTE')"""


@pytest.fixture
async def role(db: asyncpg.Connection) -> AsyncIterator[str]:
    """A role whose name has to be quoted."""
    name = f're:"voked {uuid4().hex[:8]}'
    quoted = await db.fetchval("SELECT quote_ident($1)", name)
    await db.execute(f"CREATE ROLE {quoted}")
    yield name
    await db.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


@pytest.fixture
async def quoted(db: asyncpg.Connection, role: str) -> str:
    return str(await db.fetchval("SELECT quote_ident($1)", role))


async def test_role_whose_rights_are_revoked_may_call_nothing_and_gets_nothing_again(
    url: str, db: asyncpg.Connection, role: str
) -> None:
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role=role, grant_read_role=role)
    assert await db.fetchval(MAY_CALL, role) == sorted(PRODUCERS.functions)

    revoked = await migrate.upgrade(url, prices=PRICES_TOKENS, revoke_role=role)
    later = await migrate.upgrade(url, prices=PRICES_TOKENS)

    assert (revoked.still_callable, later.producers, later.readers) == ((), (), ())
    assert await db.fetchval(MAY_CALL, role) == []
    assert await migrate.check(url) == []


async def test_producer_may_read_the_entries_of_balances_and_nobody_may_lose_that_unseen(
    url: str, db: asyncpg.Connection, role: str, quoted: str
) -> None:
    may_read = "SELECT has_table_privilege($1, 'darkroom.token_entries', 'SELECT')"
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role=role)
    assert await db.fetchval(may_read, role)
    assert not await db.fetchval("SELECT has_table_privilege($1, 'darkroom.job_money', 'SELECT')", role)

    await db.execute(f"REVOKE SELECT ON darkroom.token_entries FROM {quoted}")
    (lost,) = await migrate.check(url)
    await migrate.upgrade(url, prices=PRICES_TOKENS)

    assert "darkroom.token_entries and may not read it" in lost.message
    assert await db.fetchval(may_read, role)
    await migrate.upgrade(url, prices=PRICES_TOKENS, revoke_role=role)
    assert not await db.fetchval(may_read, role)


async def test_producer_becomes_a_reader_by_one_upgrade(url: str, db: asyncpg.Connection, role: str) -> None:
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role=role)

    result = await migrate.upgrade(url, prices=PRICES_TOKENS, grant_read_role=role, revoke_role=role)

    assert (result.producers, result.readers) == ((), (role,))
    assert await db.fetchval(MAY_CALL, role) == ["batch_progress", "job_progress", "job_status"]


async def test_revoking_keeps_what_was_granted_by_hand_and_names_what_others_still_allow(
    url: str, db: asyncpg.Connection, role: str, quoted: str
) -> None:
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role=role)
    await db.execute(f"GRANT SELECT ON darkroom.jobs TO {quoted}")
    await db.execute("GRANT EXECUTE ON FUNCTION darkroom.job_status TO PUBLIC")

    result = await migrate.upgrade(url, prices=PRICES_TOKENS, revoke_role=role)

    assert result.still_callable == ("job_status",)
    assert await db.fetchval("SELECT has_table_privilege($1, 'darkroom.jobs', 'SELECT')", role)


async def test_role_that_is_gone_is_taken_off_the_record(url: str, db: asyncpg.Connection) -> None:
    await db.execute("CREATE ROLE soon_gone")
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role="soon_gone")
    await db.execute("DROP OWNED BY soon_gone; DROP ROLE soon_gone")

    assert (await migrate.upgrade(url, prices=PRICES_TOKENS, revoke_role="soon_gone")).producers == ()


async def test_revoking_what_was_not_granted_is_refused_and_names_the_roles(
    url: str, db: asyncpg.Connection, role: str
) -> None:
    await migrate.upgrade(url, prices=PRICES_TOKENS, grant_role=role)

    with pytest.raises(RoleNotGrantedError, match=f"no rights to role 'shpo'; rights were granted to {role}"):
        await migrate.upgrade(url, prices=PRICES_TOKENS, revoke_role="shpo")

    assert await db.fetchval(MAY_CALL, role) == sorted(PRODUCERS.functions)
