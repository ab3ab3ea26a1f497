"""A table whose jobs make no picture is drained by its description alone, by the stage that calls an endpoint."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FILE = "tests/integration/box_actions/scenarios.py"
"""What it lives through: one process, because the table is registered before anything is imported."""


def test_table_without_pictures_lives_by_its_description_alone():
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.integration.box_actions.actions", "-n", "0", FILE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2_000:]
