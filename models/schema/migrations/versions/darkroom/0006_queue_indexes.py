"""Room in the indexes of the queue for the entries that claims add."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0006"
down_revision = "darkroom_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/queue_indexes.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
