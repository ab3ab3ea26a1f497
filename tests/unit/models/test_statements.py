"""The statements that workers send, for reviewers, who read SQL instead of the Python that builds it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.job_tables.registry import JOB_TABLES
from models.periodic import orphans
from models.queue import claims
from models.queue.checkpoints import _carry
from models.queue.inputs import _record_pipeline
from models.queue.resuming import _begin_at
from models.queue.transitions import (
    HELD,
    Checkpoint,
    Completed,
    Failed,
    Released,
    Retried,
    Snoozed,
    transition_statement,
)

SNAPSHOT = Path(__file__).parent / "snapshots/statements.sql"
COLUMNS = {
    ("enhancements", Checkpoint): ("analysisResult", "analysisSource"),
    ("enhancements", Completed): ("enhancedR2Key", "geminiTemp"),
    ("generations", Completed): ("outputImageR2Key",),
}


def statements() -> Iterator[tuple[str, str]]:
    """Give each statement about job tables its name; of a claim one of many and one of a single job."""
    yield "claim up to eight jobs", claims._claim(8)
    yield "claim one job", claims._CLAIM_ONE[claims.TRIGGER_WAIT_MS]
    for table in JOB_TABLES:
        rows = table.rows
        for kind in (Checkpoint, Completed, Failed, Retried, Snoozed, Released):
            columns = COLUMNS.get((rows, kind), ())
            yield f"{rows}: {kind.__name__}", transition_statement(table, kind, columns, HELD, skip="")
        yield (
            f"{rows}: Checkpoint of a stage that has no column",
            transition_statement(table, Checkpoint, (), HELD, skip="", keeps=True),
        )
        yield f"{rows}: carry what stages left to another job", _carry(table, ("ANALYZING", "CROPPING", "CHECKING"))
        yield (
            f"{rows}: Failed by nobody's claim",
            transition_statement(table, Failed, (), "q.attempts = $3", skip=" SKIP LOCKED"),
        )
        yield f"{rows}: begin at another stage", _begin_at(table)
        yield f"{rows}: inputs", table.inputs.select
    yield "enhancements: record the pipeline", _record_pipeline(JOB_TABLES[0])
    yield "objects that no row names", orphans._OBJECTS
    yield "artifacts that no row names", orphans._ARTIFACTS


def rendered() -> str:
    return "\n".join(f"-- {name}\n{text.strip()}\n" for name, text in statements())


def test_statements_are_those_of_the_snapshot():
    if rendered() != SNAPSHOT.read_text():
        pytest.fail("read `git diff` after `python -m tests.unit.models.test_statements`, and commit it if it is meant")


if __name__ == "__main__":
    SNAPSHOT.write_text(rendered())
