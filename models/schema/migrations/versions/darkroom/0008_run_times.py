"""The column that holds the time before which a job's producer doesn't want it to begin."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0008"
down_revision = "darkroom_0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/run_times.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
