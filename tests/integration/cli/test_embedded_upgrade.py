"""An embedded database that another release made is upgraded by any command that needs it, without a question."""

import asyncpg
import pytest

from models.schema import migrate
from pipelines.settings import Settings
from workers.cli.migrating import require_migrated
from workers.services.services import Services

DAMAGE = {
    "an earlier revision": """
        DROP INDEX darkroom.job_queue_held_idx, darkroom.stage_runs_failed_idx, darkroom.job_minutes_jobs_idx,
            darkroom.operator_actions_at_idx, darkroom.batches_created_idx;
        DROP TABLE darkroom.estimates, darkroom.token_entries, darkroom.earlier_money, darkroom.operators,
            darkroom.sessions, darkroom.sign_in_tries CASCADE;
        UPDATE darkroom.alembic_version SET version_num = 'darkroom_0011' WHERE version_num LIKE 'dark%'""",
    "a function that came later": "DROP FUNCTION darkroom.job_status(text)",
    "a function that reads otherwise": """CREATE OR REPLACE FUNCTION darkroom.utc_now() RETURNS timestamp
        LANGUAGE sql STABLE AS $$ SELECT clock_timestamp() AT TIME ZONE 'utc' $$""",
    "a trigger that is gone": "DROP TRIGGER {trigger} ON public.image_enhancement_jobs",
    "a trigger that was made otherwise": """DROP TRIGGER {trigger} ON public.image_enhancement_jobs;
        CREATE TRIGGER {trigger} AFTER DELETE ON public.image_enhancement_jobs FOR EACH ROW
        EXECUTE FUNCTION {function}()""",
}
TRIGGER = """
SELECT tgname, tgfoid::regproc::text FROM pg_trigger
WHERE tgrelid = 'public.image_enhancement_jobs'::regclass AND NOT tgisinternal AND tgname LIKE 'darkroom%'
ORDER BY 1 LIMIT 1
"""


@pytest.mark.parametrize("damage", DAMAGE)
async def test_embedded_data_of_another_release_is_brought_to_this_one(database_url: str, damage: str) -> None:
    connection = await asyncpg.connect(database_url)
    trigger, function = await connection.fetchrow(TRIGGER)
    await connection.execute(DAMAGE[damage].format(trigger=trigger, function=function))
    await connection.close()
    assert [problem for problem in await migrate.check(database_url) if problem.kind != "ahead"] != []

    services = Services(
        database_url=database_url,
        database_direct_url=database_url,
        redis_url="",
        broker_url="",
        storage_url="",
        is_embedded=True,
    )
    await require_migrated(Settings(), services)

    assert await migrate.check(database_url) == []
