"""The SQL of `db upgrade`, rendered for today's job tables, for reviewers, who read it instead of templates."""

from pathlib import Path

import pytest

from models.schema.migrations.repeatable import FILES
from models.schema.migrations.session import MODELS, OUR_COST_COLUMN, sql_of
from models.schema.migrations.triggers import TRIGGERS_FILE

SNAPSHOTS = Path(__file__).parent / "snapshots"
TEMPLATES = (
    *(
        "queue/queues.sql",
        "queue/user_keys.sql",
        "queue/fair.sql",
        "queue/entering.sql",
        "queue/adopting.sql",
        "queue/changes.sql",
        "queue/refusals.sql",
        "queue/submit.sql",
        "queue/cancelling.sql",
    ),
    *(
        "queue/triggers.sql",
        "queue/jobs.sql",
        "queue/job_names.sql",
        "money/tokens.sql",
        "money/balances.sql",
        "money/money.sql",
        "gate/limits.sql",
        "gate/calls.sql",
        "gate/ends.sql",
        "schema/visibility.sql",
    ),
    *(
        "queue/pipelines.sql",
        "queue/submit_checks.sql",
        "queue/batches.sql",
        "money/regeneration.sql",
        "schema/settings.sql",
    ),
    *("queue/inputs.sql", "money/subscriptions.sql", "periodic/upkeep.sql", "queue/progress.sql"),
    "queue/cancelling.sql",
)


@pytest.mark.parametrize("name", TEMPLATES)
def test_rendered_sql_is_that_of_the_snapshot(name):
    if sql_of(name, cost_column=OUR_COST_COLUMN) != (SNAPSHOTS / name).read_text():
        pytest.fail("read `git diff` after `python -m tests.unit.models.test_rendered_sql`, and commit what is meant")


def test_every_template_has_a_snapshot():
    written = {name for name in (*FILES, TRIGGERS_FILE) if "{{" in (MODELS / name).read_text()}

    assert written <= set(TEMPLATES)


if __name__ == "__main__":
    for name in TEMPLATES:
        (SNAPSHOTS / name).parent.mkdir(exist_ok=True)
        (SNAPSHOTS / name).write_text(sql_of(name, cost_column=OUR_COST_COLUMN))
