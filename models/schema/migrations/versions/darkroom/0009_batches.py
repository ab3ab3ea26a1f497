"""Tables, columns and indexes of batches: jobs that were submitted together."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0009"
down_revision = "darkroom_0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/batch_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
