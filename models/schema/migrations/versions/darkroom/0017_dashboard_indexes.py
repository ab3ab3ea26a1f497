"""Indexes by which the dashboard reads little: of failures by time, and of the numbers in roll-ups."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0017"
down_revision = "darkroom_0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/dashboard_indexes.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
