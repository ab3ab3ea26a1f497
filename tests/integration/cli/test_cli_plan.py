"""`darkroom plan`: what a number of jobs a day needs, from measured times or given ones."""

import sys

import pytest

from tests.support.calling import Arrange, Darkroom

RUNS = """
INSERT INTO darkroom.recent_stages (job_type, tier, stage, runs, seconds, counts)
SELECT 'generate', $1, 'GENERATING', $2::float8, $2::float8 * $3::float8,
       darkroom.bucket_counts(ARRAY[darkroom.bucket_of($3::float8 * 0.75), darkroom.bucket_of($3::float8 * 1.25)],
                              ARRAY[$2::bigint / 2, $2::bigint / 2])
"""
PLAN = ("plan", "--jobs-per-day", "86400", "--type", "generate", "--json")


def test_plan_from_given_times_says_that_they_are_given_and_fits_a_terminal(darkroom: Darkroom) -> None:
    ran = darkroom(
        *("plan", "--jobs-per-day", "86400", "--tier", "2k", "--peak", "10"),
        *("--stage", "ANALYZING=1", "--stage", "cropping=0.5", "--stage", "PROMPTING=0", "--stage", "GENERATING=8.5"),
    )

    assert ran.code == 0
    assert "10/s, each 10 s in a lane" in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "given and not measured: ANALYZING, CROPPING, PROMPTING, GENERATING" in ran.err


def test_plan_from_measured_times_says_how_many_runs_stand_behind_them(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: db.fetch(RUNS, "TIER_1K", 20, 8))

    ran = darkroom(*PLAN, "--tier", "1k")

    (stage,) = ran.json["stages"]
    assert (stage["stage"], stage["runs"], stage["mean_s"], stage["basis"]) == ("GENERATING", 20, 8.0, "tier")
    assert stage["variability"] == pytest.approx(1 / 16, rel=0.1)
    assert 24 < ran.json["need"]["lanes"] <= 28
    assert ran.json["need"]["connections"] == 10
    assert any("few finished runs: GENERATING (20)" in warning for warning in ran.json["warnings"])


def test_plan_tells_tiers_apart_and_says_where_it_cannot(darkroom: Darkroom, arrange: Arrange) -> None:
    arrange(lambda db: db.fetch(RUNS, "TIER_1K", 100, 8))
    arrange(lambda db: db.fetch(RUNS, "TIER_4K", 100, 24))

    quick, slow, unknown = (darkroom(*PLAN, "--tier", tier).json for tier in ("1k", "4k", "2k"))

    assert [one["stages"][0]["mean_s"] for one in (quick, slow, unknown)] == [8.0, 24.0, 16.0]
    assert slow["need"]["lanes"] > 2 * quick["need"]["lanes"]
    assert any(warning.startswith("times of all tiers together") for warning in unknown["warnings"])
    assert not any("together" in warning for one in (quick, slow) for warning in one["warnings"])


def test_plan_without_measured_or_given_times_names_the_stages_that_lack(darkroom: Darkroom) -> None:
    ran = darkroom("plan", "--jobs-per-day", "100", "--tier", "1k", "--stage", "GENERATING=8")

    assert ran.code == 1
    assert "no enhance job has finished ANALYZING, CROPPING, PROMPTING yet" in ran.err
    assert "--stage ANALYZING=SECONDS" in ran.err


@pytest.mark.parametrize("words", [("--stage", "GENERATING"), ("--stage", "DRAWING=3"), ("--type", "sketch")])
def test_plan_refuses_what_names_no_stage_or_type(darkroom: Darkroom, words: tuple[str, str]) -> None:
    ran = darkroom("plan", "--jobs-per-day", "100", "--tier", "1k", *words)

    assert ran.code == 2
    assert "stages are" in ran.err or "there are enhance" in ran.err


def test_notes_fit_a_terminal(darkroom: Darkroom, arrange: Arrange, monkeypatch: pytest.MonkeyPatch) -> None:
    arrange(lambda db: db.fetch(RUNS, "TIER_4K", 20, 8))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    ran = darkroom("plan", "--jobs-per-day", "86400", "--tier", "1k", "--type", "generate")

    assert max(map(len, ran.err.splitlines())) <= 80
    assert "measured times are of the providers and lanes that there were" in " ".join(ran.err.split())


@pytest.mark.parametrize(
    "words",
    [
        *(("--jobs-per-day", "inf"), ("--jobs-per-day", "1e308"), ("--peak", "1e9"), ("--wait", "1e9")),
        *(("--lanes", "99999999999999999999"), ("--stage", "GENERATING=1e308"), ("--stage", "GENERATING=nan")),
    ],
)
def test_plan_refuses_numbers_that_nobody_means(darkroom: Darkroom, words: tuple[str, str]) -> None:
    times = ("--stage", "ANALYZING=1", "--stage", "CROPPING=1", "--stage", "PROMPTING=1", "--stage", "GENERATING=1")

    ran = darkroom("plan", "--jobs-per-day", "100", "--tier", "1k", *times, *words)

    assert (ran.code, ran.out) == (2, "")
    assert words[0] in ran.err
