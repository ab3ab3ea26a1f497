"""Tables and columns of roll-ups and of counts of queues."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0010"
down_revision = "darkroom_0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/rollup_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
