"""The revisions that the quick check of a database knows, compared with the migrations."""

import pytest
from alembic.script import ScriptDirectory

from models.schema.migrations.revisions import alembic_config
from models.schema.readiness import HEADS, REVISIONS


@pytest.mark.parametrize("branch", REVISIONS)
def test_revisions_that_checks_know_are_those_of_the_migrations(branch: str) -> None:
    script = ScriptDirectory.from_config(alembic_config())
    newest_first = [one.revision for one in script.iterate_revisions(f"{branch}@head", f"{branch}@base")]

    assert REVISIONS[branch] == tuple(reversed(newest_first))


def test_each_branch_has_one_base_and_one_head_of_its_own() -> None:
    script = ScriptDirectory.from_config(alembic_config())

    assert set(script.get_heads()) == HEADS
    assert sorted(script.get_bases()) == sorted(revisions[0] for revisions in REVISIONS.values())
