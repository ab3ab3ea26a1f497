"""A job's place and the estimate of its end, in words and as JSON."""

from models.queue.outlook import Outlook
from workers.presentation.outlooks import outlook_fields, outlook_words, short_words

WAITING = Outlook("PENDING", "ANALYZING", 0, 13, 185.04, 120.0, 240.0, 60.0, 420.0, "12 jobs before it; 8 lanes")
PAUSED = Outlook("PENDING", "ANALYZING", 0, 2, None, None, None, None, None, "an operator paused queue default")
RUNNING = Outlook("PROCESSING", "GENERATING", 1, None, 9.0, 5.0, 12.0, 1.0, 30.0, None)


def test_waiting_job_is_told_its_place_its_time_and_what_is_assumed():
    assert short_words(WAITING) == "place 13, about 3 min 05 s"
    assert outlook_words(WAITING) == (
        "place 13; about 3 min 05 s left (half of such jobs: 2 min 00 s to 4 min 00 s,"
        " nine of ten: 1 min 00 s to 7 min 00 s): 12 jobs before it; 8 lanes"
    )


def test_job_without_an_estimate_is_told_why():
    assert outlook_words(PAUSED) == "place 2: an operator paused queue default"


def test_running_job_is_told_its_time():
    assert short_words(RUNNING) == "about 9.0 s"


def test_fields_are_those_of_the_events_of_progress():
    assert outlook_fields(WAITING) == {
        "place": 13,
        "etaS": 185.0,
        "eta50S": [120.0, 240.0],
        "eta90S": [60.0, 420.0],
        "waitsFor": "12 jobs before it; 8 lanes",
    }
    assert outlook_fields(PAUSED)["eta90S"] is None
