"""The operators of the dashboard, their sessions, and tries to sign in."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0016"
down_revision = "darkroom_0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/operator_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
