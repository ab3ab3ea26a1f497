"""The constants of the quick check of a database, compared with the migrations."""

from models.schema.migrations.session import BRANCHES, branch_revisions
from models.schema.readiness import HEADS, OWN_HEAD


def test_quick_look_knows_the_newest_revision_of_each_branch() -> None:
    assert {branch_revisions(branch)[-1] for branch in BRANCHES} == HEADS
    assert branch_revisions("darkroom")[-1] == OWN_HEAD
