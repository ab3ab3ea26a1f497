"""`darkroom demo` as a person runs it, and the problems that it reports if its jobs don't end as expected."""

import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from models.queue.progress import JobProgress
from pipelines.keys import enhanced_key
from pipelines.providers.local.networks import FAITHFUL, missing
from pipelines.settings import Settings
from tests.support.patience import HANGS_AFTER_S
from workers.cli.app import main
from workers.cli.failures import CommandError
from workers.demo import execution
from workers.demo.facts import Entry, Facts, _problems_of
from workers.demo.jobs import DEMO_JOBS
from workers.demo.page import write_page
from workers.demo.sheet import WIDTH_PX, write_sheet
from workers.operations.watching import Look
from workers.submission import Picture

DEMO = [sys.executable, "-m", "workers.cli.app", "demo"]
ROOT = Path(__file__).resolve().parents[2]
FOREIGN = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none", "TOKENS": "external", "DARKROOM_PRICES": "FREE=9"}


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str
    folder: Path
    home: Path

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(home: Path, **extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    return kept | {"DARKROOM_HOME": str(home), "PYTHONPATH": str(ROOT)} | extra


def run_demo(folder: Path, *arguments: str, **extra: str) -> Ran:
    home = folder / "a home"
    done = subprocess.run(
        [*DEMO, *arguments],
        cwd=folder,
        env=environment(home, **extra),
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER_S,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr, folder, home)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A place with a space in its path."""
    with tempfile.TemporaryDirectory(prefix="a demo ", dir="/tmp") as made:
        os.chmod(made, 0o755)  # noqa: PTH101, S103 - the server may run as another user
        yield Path(made)


@pytest.fixture(scope="module")
def first(folder: Path) -> Ran:
    """A demo without networks, which need four times the work of all else; that with them is in `make proof`."""
    return run_demo(folder, "--json", DARKROOM_LEARNED_CPU_S="0")


def test_demo_ends_every_job_as_it_must(first):
    assert first.code == 0, first.err
    assert first.json["problems"] == []
    assert Counter(job["status"] for job in first.json["jobs"]) == {"COMPLETED": 6, "REFUNDED": 1}
    assert {job["tier"] for job in first.json["jobs"]} == {"FREE", "TIER_1K", "TIER_2K", "TIER_4K"}
    assert sum(job["isBlend"] for job in first.json["jobs"]) == 1


def test_demo_charges_and_pays_back(first):
    users = first.json["users"]

    assert all(user["after"] == user["before"] - user["charged"] + user["refunded"] for user in users)
    assert sum(user["refunded"] for user in users) == 5
    assert sum(user["charged"] for user in users) == 5 + sum(user["before"] - user["after"] for user in users)


def test_demo_says_what_was_measured_and_done(first):
    done = [job for job in first.json["jobs"] if job["status"] == "COMPLETED"]

    assert all(job["measures"] for job in done)
    assert all(job["treatments"] or job["wasCropped"] for job in done)
    assert all(set(job["stagesMs"]) == {"ANALYZING", "CROPPING", "PROMPTING", "GENERATING"} for job in done)


@pytest.mark.proof
@pytest.mark.skipif(missing(FAITHFUL) is not None, reason="no networks for this platform")
def test_demo_enlarges_and_denoises_by_networks(folder):
    ran = run_demo(folder, "--json", "--out", "by networks")

    assert ran.code == 0, ran.err
    assert ran.json["problems"] == []
    done = {job["name"]: " ".join(job["treatments"]) for job in ran.json["jobs"]}

    assert "by a network (upconv_7_photo), then by Lanczos (1.1 megapixels are over" in done["letterboxed"]
    assert "removed by a network" in done["noisy"]
    assert "by a network (upconv_7_photo, 2 steps)" in done["noisy"]


def test_demo_leaves_sheet_and_page_in_the_current_directory(first):
    sheet, page = (first.folder / "demo-output" / name for name in ("before-after.png", "before-after.html"))

    assert [first.json["sheet"], first.json["page"]] == [str(sheet), str(page)]
    with Image.open(sheet) as picture:
        assert picture.width == WIDTH_PX
    assert page.read_text().count('<input type="range"') == 6


@pytest.mark.proof
def test_demo_repeated_beside_foreign_services_uses_its_own(first):
    again = run_demo(first.folder, "--out", "other place", **FOREIGN, DARKROOM_LEARNED_CPU_S="0")

    assert again.code == 0, again.err
    assert "DATABASE_URL: left alone" in again.err
    assert "6 COMPLETED, 1 REFUNDED" in again.out
    assert "by Lanczos (networks are turned off" in " ".join(again.out.split())
    assert str(first.folder / "other place" / "before-after.html") in again.out
    assert [path.name for path in first.home.iterdir()] == ["demo"]


def test_demo_interrupted_leaves_no_process_and_no_job(first, folder):
    home = first.home  # with the data of the first, which was waited for once
    with subprocess.Popen(
        [*DEMO, "--json"],
        cwd=folder,
        env=environment(home, DARKROOM_LEARNED_CPU_S="0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "PROCESSING" in line:
                break
        demo.send_signal(signal.SIGINT)
        time.sleep(0.1)  # an impatient person
        demo.send_signal(signal.SIGINT)
        demo.stderr.read()
        code = demo.wait(HANGS_AFTER_S)

    assert code == 130
    until_s = time.monotonic() + HANGS_AFTER_S
    while (left := processes_of(home)) and time.monotonic() < until_s:
        time.sleep(0.05)
    assert left == []
    jobs = subprocess.run(
        [sys.executable, "-m", "workers.cli.app", "jobs", "list", "--json"],
        env=environment(home / "demo"),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"PENDING", "PROCESSING"} & {job["status"] for job in json.loads(jobs.stdout)}


def processes_of(home: Path) -> list[str]:
    """Return the command lines of processes that know this home, children of workers and servers among them."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
        except (psutil.Error, OSError):
            continue
        if any(str(home) in word for word in words):
            found.append(" ".join(process.cmdline()))
    return found


async def test_demo_is_given_up_once_no_job_goes_on(monkeypatch):
    standstill = execution.Standstill()
    looks = [Look([JobProgress("j", status="PROCESSING", stage=stage)], {}) for stage in ("ANALYZING", "CROPPING")]
    monkeypatch.setattr(execution, "STANDSTILL_S", 0.0)

    for look in looks:
        await standstill.give_up(look)
    with pytest.raises(CommandError, match="none of the demo's jobs has gone on for 0 s"):
        await standstill.give_up(looks[-1])


def test_demo_out_that_is_a_file_is_refused_at_once(tmp_path, capsys):
    (tmp_path / "taken").touch()

    assert main(["demo", "--out", str(tmp_path / "taken")]) == 2
    assert "--out" in capsys.readouterr().err


def jpeg(width_px: int = 60, height_px: int = 40) -> bytes:
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((width_px, height_px)).convert("RGB").save(encoded, "JPEG")
    return encoded.getvalue()


def make_facts(**job: Any) -> Facts:
    data = jpeg()
    sha256 = hashlib.sha256(data).hexdigest()
    now = datetime(2026, 1, 1)  # noqa: DTZ001 - the application's columns have no zone
    row = {
        "id": "cjob",
        "status": "COMPLETED",
        "errorMessage": None,
        "enhancedR2Key": enhanced_key("cuser", "cimage", "cjob", sha256),
        "enhancedWidth": 60,
        "enhancedHeight": 40,
        "enhancedSizeBytes": len(data),
        "analysisResult": {"defects": {"isDark": True, "hasColorCast": True, "colorCastType": "blue <b>"}},
        "wasCropped": False,
        "cropDimensions": None,
        "createdAt": now,
        "processingStartedAt": now + timedelta(seconds=1),
        "processingCompletedAt": now + timedelta(seconds=3),
        "updatedAt": now + timedelta(seconds=3),
    }
    demo_job = next(demo_job for demo_job in DEMO_JOBS if demo_job.tier == "TIER_2K" and not demo_job.is_missing)
    return Facts(
        entry=Entry(demo_job, "cjob", Picture("dark.jpg", data, "jpeg", 60, 40)),
        job=row | job,
        stage_ms={"ANALYZING": 120, "GENERATING": 900},
        measures={"gamma": 2.04},
        treatments=("brightened <i>",),
        sha256=sha256,
        charged=5,
        refunded=0,
        result=data,
    )


@pytest.fixture
def prices() -> Settings:
    return Settings()


def test_problems_of_a_job_as_it_must_be_are_none(prices):
    assert _problems_of(prices, make_facts()) == []


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (make_facts(status="FAILED", errorMessage="no light"), ["FAILED (no light)", "paid back 0"]),
        (make_facts(enhancedSizeBytes=1), ["recorded 1"]),
        (make_facts(enhancedR2Key="users/u/enhanced/i/j-0000000000000000.jpg"), ["lacks its own hash"]),
        (replace(make_facts(), sha256="0" * 64), ["recorded 0000"]),
        (replace(make_facts(), result=None), ["can't be read"]),
        (replace(make_facts(), charged=10), ["charged 10 tokens, expected 5"]),
        (replace(make_facts(), refunded=5), ["paid back 5 tokens, expected 0"]),
    ],
    ids=["status", "size", "key", "hash", "object", "charge", "refund"],
)
def test_problems_name_what_is_off(prices, facts, words):
    found = _problems_of(prices, facts)

    assert all(any(word in problem for problem in found) for word in words), found


def test_page_loads_nothing_and_escapes_what_it_shows(tmp_path):
    refused = replace(make_facts(status="REFUNDED", errorMessage="<script>"), result=None)
    cropped = make_facts(wasCropped=True, cropDimensions={"x": 0, "y": 4, "w": 60, "h": 32})

    page = write_page([make_facts(), cropped, refused], tmp_path / "page.html").read_text()

    assert not re.search(r"https?:|//[a-z]|@import|url\(", page.replace("application/", ""))
    assert set(re.findall(r'(?:src|href)="([^:]*:)', page)) == {"data:"}
    assert "brightened &lt;i&gt;" in page
    assert "<i>" not in page
    assert page.count("<script>") == 1
    assert "top:10.000%" in page


def test_sheet_holds_a_row_for_every_job(tmp_path):
    refused = replace(make_facts(status="REFUNDED", errorMessage="gone"), result=None)

    heights = []
    for facts in ([make_facts()], [make_facts(), make_facts()], [make_facts(), make_facts(), refused]):
        with Image.open(write_sheet(facts, tmp_path / "sheet.png")) as sheet:
            heights.append(sheet.height)

    assert heights == sorted(set(heights))
