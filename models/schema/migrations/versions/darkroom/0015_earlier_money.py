"""The charges and refunds of jobs whose ids later jobs have."""

from alembic import op

from models.schema.migrations.session import execute_file

revision = "darkroom_0015"
down_revision = "darkroom_0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/earlier_money_tables.sql")


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema, including what this revision made.
    pass
