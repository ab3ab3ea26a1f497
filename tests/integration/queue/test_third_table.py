"""A described job table that no release has works in all that models do, and nothing else changes for it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file", ["scenarios", "operating"])
def test_third_job_table_lives_by_its_description_alone(file):
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.third_table.frames", "-n", "0", f"tests/third_table/{file}.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2_000:]
