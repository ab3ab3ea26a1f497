"""`queue stats`, `doctor`, `config` and `db`: what the program prints about its state."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from config.postgres_url import parse_postgres_url
from models.database import Database
from tests.support.builders import claim_jobs, make_job, make_user, make_worker, set_status
from tests.support.calling import Arrange, Darkroom
from tests.support.fake_gemini.server import FakeGemini
from tests.support.patience import HANGS_AFTER_S
from tests.support.periodic_rows import set_last
from workers.operations import doctor


@pytest.fixture(autouse=True)
def patient_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `doctor` finish every check, on a busy machine too; its limits are a test's own."""
    for limit in ("CHECK_S", "TOTAL_S"):
        monkeypatch.setattr(doctor, limit, HANGS_AFTER_S)


def test_queue_stats_counts_by_queue_and_status_and_names_live_workers(darkroom: Darkroom, arrange: Arrange) -> None:
    dead = arrange(lambda db: make_worker(db, lease_s=-60))
    live = arrange(make_worker)
    for _ in range(3):
        arrange(make_job)
    arrange(lambda db: claim_jobs(db, live))

    stats = darkroom("queue", "stats", "--json").json

    assert [(row["queue"], row["status"], row["count"]) for row in stats["statuses"]] == [
        ("default", "pending", 2),
        ("default", "processing", 1),
    ]
    assert all(row["oldest_wait_s"] >= 0 for row in stats["queues"])
    assert [(worker["id"], worker["running"]) for worker in stats["workers"]] == [(str(live), 1)]
    assert str(dead) not in str(stats)


def test_queue_stats_of_an_empty_queue_says_how_to_start(darkroom: Darkroom) -> None:
    ran = darkroom("queue", "stats")

    assert ran.code == 0
    assert "the queue is empty" in ran.out
    assert "darkroom up" in ran.out


def test_doctor_finds_a_sound_installation_sound(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(make_worker)

    ran = darkroom("doctor", "--json")

    assert ran.code == 0
    assert [check for check in ran.json["checks"] if check["status"] != "ok"] == []


def test_doctor_names_what_is_wrong_and_what_to_do(darkroom: Darkroom, arrange: Arrange) -> None:
    for _ in range(3):
        arrange(make_job)
    arrange(lambda db: claim_jobs(db, deadline_s=-120))
    arrange(lambda db: db.fetch("UPDATE darkroom.workers SET lease_expires_at = now() - interval '1 minute'"))
    arrange(lambda db: db.fetch("DELETE FROM darkroom.job_queue WHERE status = 'pending'"))
    arrange(
        lambda db: db.fetch("""UPDATE public.image_enhancement_jobs SET "createdAt" = "createdAt" - interval '2 h' """)
    )
    arrange(lambda db: db.fetch("UPDATE public.user_token_balances SET balance = balance + 1"))

    ran = darkroom("doctor", "--json")

    found = {check["name"]: check for check in ran.json["checks"] if check["status"] != "ok"}
    assert ran.code == 1
    assert found.keys() == {"workers", "leases", "stuck jobs", "jobs outside the queue", "money"}
    assert found["money"]["status"] == "fail"
    assert "I7" in found["money"]["message"]
    assert all(check["advice"] for check in found.values())
    assert "darkroom scheduler" in darkroom("doctor").out


def test_doctor_names_what_operators_and_providers_stopped(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DARKROOM_BUDGETS", "day_calls=10")
    monkeypatch.setenv("DARKROOM_MAX_WAIT_S", "3600")
    arrange(make_worker)
    for statement in (
        """INSERT INTO darkroom.limits (scope, name, window_start, state)
           VALUES ('budget', 'all', darkroom.day_start(now(), 'UTC'), '{"calls": 9}'),
               ('provider', 'gemini', 'epoch',
                jsonb_build_object('open_until', now() + interval '1 h', 'open_reason', 'down'))""",
        """INSERT INTO darkroom.stage_runs (job_type, job_id, event, error)
           VALUES ('enhance', 'q1', 'failed', 'quarantined: x')""",
        """INSERT INTO darkroom.ticks (task, tick_at, status, error, finished_at)
           VALUES ('t', now(), 'failed', 'no', now())""",
        "UPDATE darkroom.settings SET value = '{}' WHERE key = 'regeneration'",
    ):
        arrange(lambda db, statement=statement: db.fetch(statement))
    arrange(make_job)
    arrange(lambda db: db.fetch("UPDATE darkroom.job_queue SET created_at = created_at - interval '2 h'"))
    darkroom("queue", "pause", "--provider", "gemini", "--reason", "bill")

    ran = darkroom("doctor", "--json")
    arrange(lambda db: db.fetch("DELETE FROM darkroom.ticks"))

    found = {check["name"]: check["message"] for check in ran.json["checks"] if check["status"] != "ok"}
    assert found.keys() == {
        *("quarantined jobs", "pauses", "breakers", "periodic tasks", "overdue jobs", "budgets", "regeneration")
    }
    assert (ran.code, len(ran.json["plan"])) == (0, len(found))
    assert "bill" in found["pauses"]
    assert found["breakers"].endswith("gemini: down")
    assert found["budgets"].startswith("9 of the budget of 10 calls a day")


def test_doctor_shows_what_is_not_well_and_all_when_asked(darkroom: Darkroom) -> None:
    shown, everything = darkroom("doctor"), darkroom("doctor", "--all")

    names = [line.split("  ")[0] for line in shown.out.splitlines()]
    assert names[:2] == ["check", "workers"]
    assert re.fullmatch(r"(\d+) of (\d+) checks are well; `darkroom doctor --all` shows them", names[2])
    assert "triggers" in everything.out
    assert "--all" not in everything.out


def test_doctor_never_calls_triggers_well_where_there_is_no_schema(
    darkroom: Darkroom, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)

    ran = darkroom("doctor", "--json")

    found = {check["name"]: check["status"] for check in ran.json["checks"]}
    assert (ran.code, found["migrations"]) == (1, "fail")
    assert not found.keys() & {"triggers", "objects", "sequences", "rows", "tables", "money"}


def test_doctor_gives_up_a_check_that_takes_long_and_names_what_it_had_no_time_for(
    darkroom: Darkroom, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECK_S", 1.0)
    with asyncio.Runner() as holding:
        holder = holding.run(asyncpg.connect(**parse_postgres_url(database_url).asyncpg_arguments()))
        holding.run(holder.execute("BEGIN; LOCK public.token_transactions"))
        slow = darkroom("doctor", "--json")
        holding.run(holder.close())
    monkeypatch.setattr(doctor, "TOTAL_S", 0.1)
    short = darkroom("doctor", "--json")

    (money,) = (check for check in slow.json["checks"] if check["name"] == "money")
    assert (money["status"], money["message"]) == ("warn", "not looked at to the end: it took more than 1 s")
    assert "darkroom tokens audit" in money["advice"]
    assert short.json["checks"][-1]["message"].startswith("0.1 s were over before these: ")
    assert "money" in short.json["checks"][-1]["message"]


def test_doctors_plan_begins_with_what_fails(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(make_user)
    arrange(lambda db: db.fetch("UPDATE public.user_token_balances SET balance = balance + 1"))

    ran = darkroom("doctor", "--json")

    assert [step.split(":")[0] for step in ran.json["plan"]] == ["money", "workers"]
    assert "1. " in darkroom("doctor").out


def test_doctor_goes_on_where_services_are_away(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x@127.0.0.1:1/x")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("STORAGE_URL", "file:///proc/nosuch")

    ran = darkroom("doctor", "--json")

    assert ran.code == 1
    assert [check["name"] for check in ran.json["checks"] if check["status"] == "fail"] == [
        "postgresql",
        "broker",
        "storage",
    ]


def test_database_that_is_away_is_one_line(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x:secret@127.0.0.1:1/x")

    ran = darkroom("jobs", "list")

    assert ran.code == 1
    assert "DATABASE_URL" in ran.err
    assert len(ran.err.splitlines()) == 1
    assert "secret" not in ran.err


def test_config_lists_every_setting_and_masks_secrets(command: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-very-secret-indeed")

    ran = command("config", "--json")

    rows = {row["name"]: row for row in ran.json}
    assert ran.code == 0
    assert rows["DARKROOM_LANES"]["value"] == "64"
    assert rows["GEMINI_API_KEY"]["is_set"]
    assert all(row["meaning"] for row in rows.values())
    assert "very-secret" not in ran.out + command("config").out


def test_unknown_setting_stops_every_command(command: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_LANE", "3")

    ran = command("jobs", "list")

    assert ran.code == 2
    assert ran.err == (
        "darkroom: DARKROOM_LANE is not a setting; did you mean DARKROOM_LANES? `darkroom config` lists them all\n"
    )


def test_db_check_and_upgrade_of_a_ready_database(darkroom: Darkroom) -> None:
    assert darkroom("db", "check").out == "the database is ready\n"
    assert darkroom("db", "check", "--json").json == []
    upgraded = darkroom("db", "upgrade", "--json")
    assert (upgraded.code, upgraded.json["applied"], upgraded.json["mode"]) == (0, [], "managed")


def test_db_sql_prints_what_db_upgrade_makes(darkroom: Darkroom) -> None:
    everything, one = darkroom("db", "sql"), darkroom("db", "sql", "--table", "mcp_generation_jobs")

    assert (everything.code, one.code) == (0, 0)
    assert "{{" not in everything.out
    assert "FUNCTION darkroom.enter_enhancements()" in everything.out
    assert "FUNCTION darkroom.enter_generations()" in one.out
    assert "TRIGGER darkroom_enter AFTER INSERT ON public.mcp_generation_jobs" in one.out
    assert "FUNCTION darkroom.enter_enhancements()" not in one.out


def test_db_sql_of_a_table_that_is_no_job_table_is_refused(darkroom: Darkroom) -> None:
    ran = darkroom("db", "sql", "--table", "users")

    assert (ran.code, ran.err) == (
        2,
        "darkroom: --table 'users': give image_enhancement_jobs, mcp_generation_jobs\n",
    )


def test_db_upgrade_records_what_a_refresh_on_demand_gives(
    darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refresh(database: Database) -> int:
        user_id = await make_user(database, balance=0)
        now = await database.fetchval("SELECT clock_timestamp()")
        await set_last(database, user_id, now - timedelta(minutes=31))
        return int(await database.fetchval("SELECT darkroom.regenerate($1)", user_id))

    before = arrange(refresh)
    monkeypatch.setenv("DARKROOM_REGENERATION", "drip")
    assert darkroom("db", "upgrade").code == 0

    assert (before, arrange(refresh)) == (0, 2)


def test_db_upgrade_for_a_role_that_is_not_there_is_a_usage_error(darkroom: Darkroom) -> None:
    ran = darkroom("db", "upgrade", "--grant", "nosuch")

    assert ran.code == 2
    assert "there is no role 'nosuch'" in ran.err


def test_db_upgrade_says_who_has_rights_and_takes_them_away(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: db.fetch("CREATE ROLE cli_shop"))
    try:
        granted = darkroom("db", "upgrade", "--grant", "cli_shop")
        again = darkroom("db", "upgrade")
        both = darkroom("db", "upgrade", "--grant", "cli_shop", "--revoke", "cli_shop")
        revoked = darkroom("db", "upgrade", "--revoke", "cli_shop")
        refused = darkroom("db", "upgrade", "--revoke", "cli_shop")
    finally:
        arrange(lambda db: db.fetch("DROP OWNED BY cli_shop"))
        arrange(lambda db: db.fetch("DROP ROLE cli_shop"))

    assert "granted to cli_shop: submit_enhancement, " in granted.out
    assert again.out == granted.out
    assert (both.code, both.out) == (2, "")
    assert revoked.out.endswith("revoked from cli_shop: what was granted to it\n")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == "darkroom: db upgrade granted no rights to role 'cli_shop'; no role has any\n"


def test_empty_database_of_anothers_is_never_migrated_unasked(
    darkroom: Darkroom, arrange: Arrange, empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_url)

    listed, checked = darkroom("jobs", "list"), darkroom("db", "check")

    assert (listed.code, checked.code) == (2, 1)
    assert "run darkroom db upgrade" in listed.err
    assert "run darkroom db upgrade" in checked.out
    assert darkroom("db", "check", "--json").json[0]["kind"] == "not_installed"


def test_foreign_tables_without_a_mode_are_refused_with_the_explanation(
    darkroom: Darkroom, foreign_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", foreign_url)

    ran = darkroom("db", "upgrade")

    assert ran.code == 2
    assert "managed" in ran.err
    assert "producer" in ran.err
    assert "TOKENS=" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_storage_that_cannot_be_made_is_a_configuration_error(
    darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STORAGE_URL", (tmp_path / "file" / "objects").as_uri())

    ran = darkroom("jobs", "list")

    assert ran.code == 2
    assert "STORAGE_URL" in ran.err


def test_debug_shows_the_traceback_wherever_it_stands(darkroom: Darkroom) -> None:
    for arguments in (("--debug", "jobs", "show", "nosuch"), ("jobs", "show", "nosuch", "--debug")):
        ran = darkroom(*arguments)

        assert ran.code == 1
        assert "Traceback" in ran.err
        assert ran.err.endswith("darkroom: job nosuch not found; `darkroom jobs list` shows the newest\n")


def test_jobs_that_ended_leave_the_stats(darkroom: Darkroom, arrange: Arrange) -> None:
    job_id = arrange(make_job)
    arrange(lambda db: set_status(db, job_id, "CANCELLED"))

    assert darkroom("queue", "stats", "--json").json["queues"] == []


def test_doctor_asks_the_provider_for_its_models(darkroom: Darkroom, monkeypatch: pytest.MonkeyPatch) -> None:
    def provider() -> tuple[str, str]:
        (check,) = [check for check in darkroom("doctor", "--json").json["checks"] if check["name"] == "provider"]
        return check["status"], check["message"]

    with FakeGemini() as server:
        monkeypatch.setenv("PROVIDER", "gemini")
        monkeypatch.setenv("GEMINI_API_KEY", "a-key-for-tests")
        monkeypatch.setenv("GEMINI_BASE_URL", server.url)
        assert provider() == ("ok", "gemini")

        monkeypatch.setenv("DARKROOM_GEMINI_IMAGE_MODEL", "retired-1")
        status, message = provider()

    assert status == "fail"
    assert "retired-1" in message
    assert provider()[0] == "warn"  # nobody answers there any more
