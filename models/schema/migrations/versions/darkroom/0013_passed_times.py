"""The column of estimates that says how much of a job's time had passed."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0013"
down_revision = "darkroom_0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/passed_times.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
