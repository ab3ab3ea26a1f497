"""The column and the index by which jobs are claimed alone after their worker died."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0005"
down_revision = "darkroom_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/suspect_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
