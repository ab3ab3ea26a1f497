"""Log lines are written to one stream in one format, without secrets."""

import errno
import io
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from config.log import configure_logging, name_process
from config.logger import EventLogger, bound_fields
from config.masking import SecretMask
from pipelines.settings import Settings
from tests.support.patience import HANGS_AFTER_S

KEY = "AIza" + "Zq-_9" * 7

pytestmark = pytest.mark.usefixtures("logging_restored")


def configured(log_format: str, **settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(Settings(log_format=log_format, **settings), stream=stream)
    return stream


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"GET https://x/v1?key={KEY}&alt=1", "GET https://x/v1?key=***&alt=1"),
        ("GET https://x/v1?key=unusual&alt=1", "GET https://x/v1?key=***&alt=1"),
        (f"Headers({{'x-goog-api-key': '{KEY[:20]}'}})", "Headers({'x-goog-api-key': '***'})"),
        (
            "https://b/o?X-Amz-Credential=AK%2Fx&X-Amz-Signature=ab12",
            "https://b/o?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("X-Amz-Security-Token: abc/def==", "X-Amz-Security-Token: ***"),
        ("Authorization: AWS4-HMAC-SHA256 Credential=a, Signature=b", "Authorization: ***"),
        ("{'authorization': 'Bearer abc', 'accept': '*/*'}", "{'authorization': '***', 'accept': '*/*'}"),
        ("[(b'authorization', b'Bearer abc')]", "[(b'authorization', b'***')]"),
        ("postgresql://app:s3cr3t@db:5432/x failed", "postgresql://app:***@db:5432/x failed"),
        ("redis://:s3cr3t@r/0", "redis://:***@r/0"),
        ("AKIAABCDEFGHIJKLMNOP used", "*** used"),
        ("storage key=enhanced/u1/abc.jpg", "storage key=enhanced/u1/abc.jpg"),
        ("http://host:80/a", "http://host:80/a"),
    ],
)
def test_mask_known_shape_is_replaced(text: str, masked: str) -> None:
    assert SecretMask()(text) == masked


def test_mask_configured_secret_is_replaced_encoded_or_not() -> None:
    mask = SecretMask(["pa ss/word&1", "dev"])

    assert mask("a pa ss/word&1 b pa%20ss%2Fword%261 c dev") == "a *** b *** c dev"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_secrets_of_every_way_in_are_masked(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", 'wJalr"XUtnFEMI')
    stream = configured(
        log_format, gemini_api_key="my-own-key-1", database_url="postgres://u:hunter2hunter2@h/d", redis_url="redis://h",
        log_level="debug",
    )  # fmt: skip
    log = EventLogger("test")

    log.info("stage_completed", url=f"https://x?key={KEY}", password="hunter2hunter2", raw='wJalr"XUtnFEMI')
    log.info("stage_completed", job_id="j1", nested=['wJalr"XUtnFEMI'])
    log.info("stage_completed", raw='wJalr"XUtnFEMI')
    log.info("stage_completed", headers='{"authorization": "Bearer abcdef"}')
    logging.getLogger("foreign").warning("calling with %s", "my-own-key-1")
    logging.getLogger("httpx").info("HTTP Request: GET https://x?alt=1")

    def refuse(secret_local: str) -> None:
        raise ValueError(f"refused {KEY} {len(secret_local)}")

    try:
        refuse(KEY[::-1])
    except ValueError:
        log.exception("provider_call_failed")

    text = stream.getvalue()
    assert "stage_completed" in text
    assert "j1" in text
    assert "calling with ***" in text
    assert "ValueError: refused ***" in text
    for secret in (KEY, "my-own-key-1", "hunter2hunter2", "wJalr", "XUtnFEMI", "abcdef", KEY[::-1], "HTTP Request"):
        assert secret not in text


def test_log_json_is_one_object_per_line_with_fields() -> None:
    stream = configured("json")

    token = bound_fields.set({"job_id": "j1"})
    EventLogger("test").info("job_claimed", attempt=2)
    EventLogger("test").debug("not_shown")
    bound_fields.reset(token)
    logging.getLogger("dramatiq").warning("from %s", "outside")

    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["event"], first["job_id"], first["attempt"], first["level"]) == ("job_claimed", "j1", 2, "info")
    assert (second["event"], second["level"]) == ("from outside", "warning")


@pytest.mark.parametrize(
    ("at", "written"),
    [
        (datetime(2026, 11, 29, 23, 59, 59, 999_999, UTC), "2026-11-29T23:59:59.999999Z"),
        (datetime(2026, 11, 30, tzinfo=UTC), "2026-11-30T00:00:00.000000Z"),
        (datetime(2026, 11, 30, microsecond=42, tzinfo=UTC), "2026-11-30T00:00:00.000042Z"),
    ],
)
def test_log_json_has_the_time_in_utc(monkeypatch: pytest.MonkeyPatch, at: datetime, written: str) -> None:
    stream = configured("json")
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    monkeypatch.setattr("time.time_ns", lambda: since // timedelta(microseconds=1) * 1_000)

    EventLogger("test").info("job_claimed")

    assert json.loads(stream.getvalue())["timestamp"] == written


def test_log_of_text_that_is_no_unicode_is_a_line() -> None:
    stream = configured("json")

    EventLogger("test").info("upload_failed", error="a name in Latin-1: \udce9")

    assert json.loads(stream.getvalue())["error"] == "a name in Latin-1: \udce9"


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    "secret", ['hunter"quoted"', "hunter\\slash\\es", "hunter\nlines", "hunter\x1bcontrol", "hunter-ünïcödé"]
)
def test_log_secret_in_a_value_that_is_json_or_a_repr_is_masked(
    log_format: str, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", secret)
    stream = configured(log_format)
    in_json, in_repr = json.dumps({"k": secret}), repr({"k": secret})
    values = [in_json, in_repr, [in_json], ValueError(in_json), secret.encode(), json.dumps([in_repr])]

    for value in values:
        EventLogger("test").info("provider_call_failed", error=value)
    EventLogger("test").info("provider_call_failed", exc_info=ValueError(in_json))

    assert stream.getvalue().count("***") == len(values) + 1
    assert "hunter" not in stream.getvalue()


@dataclass(frozen=True)
class Key:
    """A value whose second field isn't shown."""

    name: str
    value: str = field(repr=False)


def test_log_values_of_other_types_are_shown_as_python_shows_them() -> None:
    stream = configured("json")
    pages = iter([1, 2])
    others = {"key": Key("k", "hidden"), "raw": b"abc", "pages": pages, "ids": {7}, "error": ValueError("refused")}

    EventLogger("test").info("job_claimed", nested=[others["key"]], **others)

    line = json.loads(stream.getvalue())
    assert {name: line[name] for name in others} == {name: str(value) for name, value in others.items()}
    assert line["nested"] == [str(others["key"])]
    assert list(pages) == [1, 2]


def test_log_dropped_url_parameters_are_warned_of() -> None:
    stream = configured("json", database_url="postgres://h/d?schema=public", redis_url="redis://h", provider=("local",))

    line = json.loads(stream.getvalue())
    assert (line["event"], line["variable"]) == ("database_url_parameters_dropped", "DATABASE_URL")
    assert line["parameters"] == ["schema"]


def test_log_without_a_format_is_json_away_from_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings())

    EventLogger("test").info("job_claimed")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "job_claimed"


def test_log_json_names_the_process_and_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.log._process_fields", {})
    stream = configured("json")
    name_process(worker_id="w1")

    EventLogger("test").info("job_claimed")

    line = json.loads(stream.getvalue())
    assert (line["worker_id"], line["host"], line["pid"]) == ("w1", socket.gethostname(), os.getpid())


class FullDisk(io.StringIO):
    """A stream that takes nothing."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_log_to_a_full_disk_fails_nothing() -> None:
    configure_logging(Settings(log_format="json"), stream=FullDisk())

    EventLogger("test").info("job_claimed")


def test_log_line_of_a_process_forked_while_a_thread_writes_is_written() -> None:
    said = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, check=False, timeout=HANGS_AFTER_S
    )

    assert said.returncode == 0
    assert '"event":"written_by_child"' in said.stderr


FORKED = """
import os, sys, threading
from config.log import configure_logging
from config.logger import EventLogger, bound_fields
from pipelines.settings import Settings

class Slow:
    def __init__(self): self.inside, self.go_on = threading.Event(), threading.Event()
    def write(self, text):
        if "by_parent" in text: self.inside.set(); self.go_on.wait(300)
        sys.stderr.write(text)
    def flush(self): sys.stderr.flush()
    def isatty(self): return False

stream = Slow()
configure_logging(Settings(log_format="json"), stream=stream)
log = EventLogger("test")
thread = threading.Thread(target=lambda: log.info("written_by_parent"))
thread.start()
stream.inside.wait(300)
child = os.fork()
if child == 0:
    log.info("written_by_child")
    os._exit(0)
_, status = os.waitpid(child, 0)
stream.go_on.set()
thread.join()
sys.exit(status)
"""


UNCAUGHT = """
import threading, warnings
from config.log import configure_logging, log_uncaught
from pipelines.settings import Settings
configure_logging(Settings(log_format="json"))
log_uncaught()
warnings.warn("an old name")
def fail(): raise ValueError("in a thread")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
raise ValueError("at the end")
"""


def test_log_of_what_nobody_caught_is_json_too() -> None:
    said = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, check=False).stderr

    warning, *errors = map(json.loads, said.splitlines())
    assert "an old name" in warning["event"]
    assert [error["event"] for error in errors] == ["error_uncaught"] * 2
    assert "ValueError: in a thread" in errors[0]["exception"]
    assert "ValueError: at the end" in errors[1]["exception"]


UNUSED = """
import sys
from config.log import configure_logging
from config.logger import EventLogger, bound_fields
from pipelines.settings import Settings
configure_logging(Settings(log_format="json"))
print("structlog" in sys.modules)
EventLogger("test").info("job_claimed", attempt=2)
"""


def test_structlog_is_imported_with_the_first_event_and_set_up_for_it() -> None:
    ran = subprocess.run([sys.executable, "-c", UNUSED], capture_output=True, text=True, check=True)

    assert ran.stdout == "False\n"
    line = json.loads(ran.stderr)
    assert (line["event"], line["attempt"], line["level"]) == ("job_claimed", 2, "info")


def test_first_events_of_several_threads_are_all_lines_of_one_format() -> None:
    stream = configured("json")
    together = threading.Barrier(8)

    def claim(number: int) -> None:
        together.wait(HANGS_AFTER_S)
        EventLogger(f"test.{number}").info("job_claimed", attempt=number)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANGS_AFTER_S)

    assert sorted(json.loads(line)["attempt"] for line in stream.getvalue().splitlines()) == list(range(8))
