"""Tables, columns, indexes and sequences of the fair order and of caps on users' running jobs."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0007"
down_revision = "darkroom_0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/fair_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
