"""Nothing but its number: functions that came after 0003, such as darkroom.job_status, are repeatable.

Whoever looks at revisions alone sees by it that they are to be made: embedded data is upgraded, and `db upgrade` of an
earlier release, which would drop what it doesn't know, refuses a database that is newer than itself.
"""

revision = "darkroom_0004"
down_revision = "darkroom_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    pass


def downgrade() -> None:
    # A branch is taken down as a whole: darkroom_0001 drops everything in the schema.
    pass
