"""Jobs of another application that work on several pictures and make several, each bought once."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILES = [f"tests/integration/several_pictures/{name}.py" for name in ("scenarios", "dying")]
"""One process and one database to copy, because the table is registered before anything is imported."""


def test_each_picture_of_a_job_is_bought_once_and_named_in_order():
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.integration.several_pictures.studies", "-n", "0", *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2_000:]
