"""`darkroom healthcheck` against servers that answer well, badly, slowly or not at all."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.patience import is_within
from tests.support.program import DARKROOM

NOT_READY = json.dumps(
    {
        "checks": [
            {"name": "database", "status": "fail", "message": "it hasn't answered within 2 s"},
            {"name": "stopping", "status": "ok", "message": "the process doesn't stop"},
        ]
    }
)


class Answers(BaseHTTPRequestHandler):
    """The first part of a path says how it is answered."""

    def do_GET(self):
        kind = self.path.split("/")[1]
        if kind == "trickling":
            with_end = threading.Event()
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            for _ in range(200):
                self.wfile.write(b" ")
                with_end.wait(0.05)
            return
        status, body = {
            "readyz": (200, "{}"),
            "base": (200, "{}"),
            "unready": (503, NOT_READY),
            "redirecting": (302, ""),
            "broken": (500, "<html>"),
            "lists": (503, "[1]"),
        }[kind]
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/readyz")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def healthcheck(*arguments, **environment):
    return subprocess.run(
        [DARKROOM, "healthcheck", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("", 0, ""),
        ("/", 0, ""),
        ("/base", 0, ""),
        ("/unready", 1, "not ready: database: it hasn't answered within 2 s\n"),
        ("/redirecting", 1, "not ready: HTTP status 302\n"),
        ("/broken", 1, "not ready: HTTP status 500\n"),
        ("/lists", 1, "not ready: HTTP status 503\n"),
    ],
)
def test_exit_code_is_that_of_the_answer_and_the_reason_is_printed(server, path, code, words):
    ran = healthcheck(server + path)

    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", words)


def test_server_that_never_ends_its_answer_is_left_after_five_seconds(server):
    began_s = time.monotonic()

    ran = healthcheck(f"{server}/trickling")

    assert (ran.returncode, ran.stderr) == (1, "not ready: no whole answer within 5 s\n")
    assert is_within(time.monotonic() - began_s, 6)


@pytest.mark.parametrize("url", ["127.0.0.1:9100", "ftp://h", "http://", "http://h:x", "http://h/?a=b"])
def test_what_is_no_base_url_ends_with_exit_2(url):
    ran = healthcheck(url)

    assert (ran.returncode, "is no base URL" in ran.stderr) == (2, True)


def test_without_a_url_the_own_address_is_asked(server):
    address = server.removeprefix("http://")

    assert healthcheck(DARKROOM_METRICS_ADDRESS=address).returncode == 0
    assert healthcheck(DARKROOM_METRICS_ADDRESS=address.replace("127.0.0.1", "0.0.0.0")).returncode == 0
    assert healthcheck(DARKROOM_DASHBOARD_ADDRESS=address).returncode == 0
    assert healthcheck(DARKROOM_METRICS_ADDRESS="127.0.0.1:0").returncode == 2
    nobody = healthcheck(DARKROOM_METRICS_ADDRESS="127.0.0.1:9")
    assert (nobody.returncode, "http://127.0.0.1:9 doesn't answer: " in nobody.stderr) == (1, True)


def test_healthcheck_with_a_url_imports_little():
    program = (
        "import sys; from workers.cli.app import main; main(['healthcheck', 'http://127.0.0.1:9']); "
        "print(*[name for name in ('asyncpg', 'structlog', 'prometheus_client', 'starlette') if name in sys.modules])"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True, stderr=subprocess.DEVNULL).strip() == ""
