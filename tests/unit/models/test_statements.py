"""The statements that workers send, for reviewers, who read SQL instead of the Python that builds it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from models.applications.registry import job_tables
from models.periodic import orphans
from models.queue import claims
from models.queue.checkpoints import _carry
from models.queue.inputs import _record_pipeline
from models.queue.resuming import _begin_at
from models.queue.transition_statements import HELD, lock_statement, transition_statement

SNAPSHOT = Path(__file__).parent / "snapshots/statements.sql"
SKIP = " SKIP LOCKED"


def statements() -> Iterator[tuple[str, str]]:
    """Give each statement about job tables its name; of a claim one of many and one of a single job."""
    yield "claim up to eight jobs", claims._claim(8)
    yield "claim one job", claims._claim_one(claims.TRIGGER_WAIT_MS, is_alone=False)
    for table in job_tables():
        rows = table.rows
        yield f"{rows}: lock the rows of a claim", lock_statement(table, HELD, skip="")
        yield f"{rows}: lock the rows of a job without a claim", lock_statement(table, "q.attempts = $3", skip=SKIP)
        for part in ("checkpoint", "failed"):
            yield f"{rows}: {part} of one claim", transition_statement(table, {part})
        columns = {f'"{name}"' for names in table.checkpoint_columns.values() for name in names}
        columns |= {f'"{name}"' for name in table.result}
        every = {"artifact", "checkpoint", "completed", "kept", "waits", *columns}
        yield f"{rows}: all kinds of writes of a group", transition_statement(table, every, is_group=True)
        yield f"{rows}: carry what stages left to another job", _carry(table, ("ANALYZING", "CROPPING", "CHECKING"))
        yield f"{rows}: begin at another stage", _begin_at(table)
        yield f"{rows}: inputs", table.inputs.select
    yield "enhancements: record the pipeline", _record_pipeline(job_tables()[0])
    yield "objects that no row names", orphans._objects()
    yield "artifacts that no row names", orphans._artifacts()


def rendered() -> str:
    return "\n".join(f"-- {name}\n{text.strip()}\n" for name, text in statements())


def test_statements_are_those_of_the_snapshot():
    if rendered() != SNAPSHOT.read_text():
        pytest.fail("read `git diff` after `python -m tests.unit.models.test_statements`, and commit it if it is meant")


if __name__ == "__main__":
    SNAPSHOT.write_text(rendered())
