"""The entries of balances that applications keep themselves."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0014"
down_revision = "darkroom_0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/token_entry_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
