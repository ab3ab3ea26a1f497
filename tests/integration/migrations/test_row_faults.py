"""Tables that became unable to take a row of ours: `db check` names them, `db upgrade` refuses them."""

import pytest

from config.tiers import PRICES_TOKENS
from models.schema.migrate import check, upgrade
from models.schema.migrations.errors import UnusableSchemaError
from pipelines.settings import Settings
from tests.support.rules import run
from workers.cli.failures import CommandUsageError
from workers.cli.migrating import require_allowed
from workers.services.services import Services

BALANCES_KEY = "user_token_balances.userId has no unique index"

DAMAGES = {
    'DROP INDEX public."user_token_balances_userId_key"': BALANCES_KEY,
    'CREATE UNIQUE INDEX one ON public.user_token_balances ("userId") WHERE balance > 0': BALANCES_KEY,
    'CREATE UNIQUE INDEX two ON public.user_token_balances ("userId", tier)': BALANCES_KEY,
    """CREATE UNIQUE INDEX three ON public.user_token_balances (lower("userId"))""": BALANCES_KEY,
    'ALTER TABLE public.user_token_balances ADD UNIQUE ("userId") DEFERRABLE': BALANCES_KEY,
    "ALTER TABLE public.user_token_balances ALTER tier DROP DEFAULT": "user_token_balances.tier is NOT NULL",
    "ALTER TABLE public.user_token_balances ADD currency text NOT NULL": "user_token_balances.currency is NOT NULL",
    "ALTER TABLE public.token_transactions ALTER metadata SET NOT NULL": "token_transactions.metadata is NOT NULL",
    'ALTER TABLE public.token_transactions ALTER "sourceId" SET NOT NULL': "token_transactions.sourceId is NOT NULL",
    'ALTER TABLE public.image_enhancement_jobs ALTER "retryCount" DROP DEFAULT': "image_enhancement_jobs.retryCount",
    "ALTER TABLE public.mcp_generation_jobs ADD locale text NOT NULL": "mcp_generation_jobs.locale is NOT NULL",
    'ALTER TABLE public.enhanced_images ALTER "isPublic" DROP DEFAULT': "enhanced_images.isPublic is NOT NULL",
    "ALTER TABLE public.error_logs ALTER stack SET NOT NULL": "error_logs.stack is NOT NULL without a default",
}
"""What an application's migration may do, and what is said of it."""


async def test_table_that_cannot_take_our_rows_is_named_until_it_can(database, database_url):
    assert await check(database_url) == []
    for damage, said in DAMAGES.items():
        await run(database, damage)
        problems = await check(database_url)
        assert {problem.kind for problem in problems} == {"rows_refused"}
        assert any(problem.message.startswith(said) for problem in problems), damage

    with pytest.raises(UnusableSchemaError, match=BALANCES_KEY):
        await upgrade(database_url, prices=PRICES_TOKENS)

    await run(database, 'CREATE UNIQUE INDEX "other name" ON public.user_token_balances ("userId") INCLUDE (balance)')
    assert BALANCES_KEY not in " ".join(problem.message for problem in await check(database_url))


async def test_table_that_cannot_take_our_rows_stops_a_start_whatever_else_an_upgrade_would_mend(
    database, database_url
):
    await run(database, "DROP TRIGGER darkroom_enter ON public.image_enhancement_jobs")
    await run(database, "ALTER TABLE public.token_transactions ALTER metadata SET NOT NULL")
    kinds = [problem.kind for problem in await check(database_url)]
    assert kinds[0] != "rows_refused"
    urls = (database_url, database_url, "redis://nowhere", "redis://nowhere", "file:///x")
    services = Services(*urls, is_embedded=False)

    with pytest.raises(CommandUsageError, match=r"token_transactions\.metadata is NOT NULL"):
        await require_allowed(Settings(), services)
