"""Changes no table: the functions that came after 0003, such as darkroom.job_status, are repeatable.

The revision's number shows that these functions have to be made: the embedded database is upgraded because of it, and
`db upgrade` of an earlier release, which would drop functions that it doesn't know, refuses a database with a revision
that it doesn't know.
"""

revision = "darkroom_0004"
down_revision = "darkroom_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    # A branch is removed as a whole: darkroom_0001 drops everything in the schema.
    pass
