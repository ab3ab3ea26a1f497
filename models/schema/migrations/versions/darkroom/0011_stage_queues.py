"""What queues by stage need: hand-overs in the history, and the order of a user's jobs under a cap."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0011"
down_revision = "darkroom_0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/stage_queue_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
