"""Tables, columns and indexes of our schema that came with the mending of objects, money and jobs that never ended."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0002"
down_revision = "darkroom_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/mend_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
