"""A short run with every kind of fault breaks no promise. `make chaos` runs a long one."""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.chaos.book import Book
from tests.chaos.plan import PER_MINUTE, Options, plan
from tests.chaos.programs import Program, World
from tests.support.fast_folder import parent_of_data
from tests.support.patience import HANGS_AFTER_S

ROOT = Path(__file__).resolve().parents[2]
DRAIN_S = 200
SHORT = (
    *("--seed", "1", "--minutes", "0.3", "--jobs", "120", "--lease-s", "4", "--grace-s", "8", "--fast"),
    *("--hang-s", "5", "--slowest-call-s", "2", "--storage-fault-s", "3", "--drain-s", str(DRAIN_S)),
    *("--supervisors", "2", "--processes", "1", "--kill", "2"),
    *("--tables", "tests.integration.third_table.orders,tests.chaos.studio"),
)


def test_promises_hold_under_every_kind_of_fault():
    with tempfile.TemporaryDirectory(prefix="dkc", dir=parent_of_data()) as folder:
        run = subprocess.run(
            [sys.executable, "-m", "tests.chaos", *SHORT, "--folder", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=HANGS_AFTER_S + DRAIN_S,
            check=False,
        )
        assert run.returncode == 0, f"{run.stdout}\n{run.stderr}"
        report = json.loads((Path(folder) / "report.json").read_text())

    assert report["violations"] == []
    assert set(report["faults"]) == set(PER_MINUTE)
    assert report["submitted"] > 100
    assert report["statuses"]["COMPLETED"] > 50
    assert report["provider"]["picture"] > 50
    assert {"frame", "gift", "studio.generate", "studio.modify"} <= set(report["types"])


def test_plan_follows_from_its_seed_and_makes_what_it_was_asked_for():
    options = Options(seed=7, minutes=45, counts={"kill": 200})
    faults = plan(options)

    assert faults == plan(options)
    assert faults != plan(Options(seed=8, minutes=45, counts={"kill": 200}))
    assert {kind: sum(fault.kind == kind for fault in faults) for kind in ("kill", "zombie", "postgres_restart")} == {
        "kill": 200,
        "zombie": 54,
        "postgres_restart": 22,
    }
    assert 0 < faults[0].at_s < faults[-1].at_s < options.seconds


async def test_program_ends_whose_cancellation_meets_a_lost_connection():
    class Rollback(Program):
        async def step(self):
            try:
                await asyncio.sleep(2 * HANGS_AFTER_S)
            except asyncio.CancelledError:
                await self.ask(self._fail)

        async def _fail(self, _connection):
            raise ConnectionResetError

    program = Rollback("rollback", "postgresql://127.0.0.1:1/none", Book(), World({}), seed=1)
    running = asyncio.create_task(program.run())
    await asyncio.sleep(0.1)

    running.cancel()
    await asyncio.wait([running], timeout=HANGS_AFTER_S)

    assert running.cancelled()
