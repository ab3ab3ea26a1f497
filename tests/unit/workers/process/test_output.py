"""Text that worker processes write to stderr is forwarded as one JSON object per line."""

import contextlib
import io
import json
import os
import threading

import pytest

from config.log import configure_logging
from pipelines.settings import Settings
from tests.support.patience import HANGS_AFTER_S
from workers.process.output import pass_on

TRACEBACK = """Traceback (most recent call last):
  File "x.py", line 1, in <module>

ValueError: no
"""


@pytest.fixture
def said(logging_restored):
    stream = io.StringIO()
    configure_logging(Settings(log_format="json"), stream=stream)
    return lambda *chunks: passed_on(stream, *chunks)


def passed_on(stream, *chunks):
    heard, told = os.pipe()
    with contextlib.redirect_stderr(stream):
        thread = threading.Thread(target=pass_on, args=(os.fdopen(heard, "rb"),))
        thread.start()
        for chunk in chunks:
            os.write(told, chunk)
        os.close(told)
        thread.join(HANGS_AFTER_S)
    assert not thread.is_alive()
    return stream.getvalue().splitlines()


def test_events_pass_as_they_are_and_texts_become_one_event(said):
    event = b'{"event": "job_claimed", "stage": "ANALYZING"}\n'

    first, text, second, last = said(event[:9], event[9:], TRACEBACK.encode(), event, b"[ncnn] \xff no GPU")

    assert first == second == event.decode().strip()
    assert (json.loads(text)["event"], json.loads(text)["text"]) == ("output_written", TRACEBACK.rstrip())
    assert json.loads(last)["text"] == "[ncnn] \ufffd no GPU"


@pytest.mark.parametrize("line", ["[1]", "null", "{", '{"event": "a"} {"event": "b"}', "[" * 100_000])
def test_json_that_is_no_object_is_a_text(said, line):
    (event,) = said(line.encode() + b"\n")

    assert json.loads(event)["text"] == line
