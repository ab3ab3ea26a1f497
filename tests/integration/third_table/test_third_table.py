"""A described job table that no release has works with all of models, and nothing else has to change for it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILES = [
    f"tests/integration/third_table/{name}.py" for name in ("scenarios", "waiting", "operating", "accounts", "plans")
]
"""What it lives through: one process and one database to copy, because it is registered before anything is imported."""


def test_third_job_table_lives_by_its_description_alone():
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.integration.third_table.frames", "-n", "0", *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2_000:]
