"""Darkroom's own tables. Functions, views and triggers stand in models/schema/migrations/repeatable.py."""

from alembic import op

from models.schema.migrations.session import execute_file, execute_script

revision = "darkroom_0001"
down_revision = None
branch_labels = ("darkroom",)
depends_on = None  # not the application branch: the tables may be another tool's

DROP_TRIGGERS = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT tgname, tgrelid::regclass AS on_table
        FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE pronamespace = 'darkroom'::regnamespace AND NOT tgisinternal AND tgparentid = 0
        ORDER BY tgrelid::regclass::text, tgname
    LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', found.tgname, found.on_table);
    END LOOP;
END $$
"""

DROP_CONTENTS = """
DO $$
DECLARE
    found record;
    routine text;
BEGIN
    FOR found IN
        SELECT CASE relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END AS kind, relname
        FROM pg_class
        WHERE relnamespace = 'darkroom'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND relname <> 'alembic_version' AND NOT relispartition
        ORDER BY relkind IN ('r', 'p'), relname
    LOOP
        EXECUTE format('DROP %s IF EXISTS darkroom.%I CASCADE', found.kind, found.relname);
    END LOOP;
    -- all are listed before the first is dropped, because one that is dropped by CASCADE can't be named afterwards
    FOREACH routine IN ARRAY ARRAY(SELECT oid::regprocedure::text FROM pg_proc
                                   WHERE pronamespace = 'darkroom'::regnamespace) LOOP
        EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', routine);
    END LOOP;
    FOR found IN SELECT relname FROM pg_class WHERE relnamespace = 'darkroom'::regnamespace AND relkind = 'S' LOOP
        EXECUTE format('DROP SEQUENCE IF EXISTS darkroom.%I CASCADE', found.relname);
    END LOOP;
    FOR found IN
        SELECT typname FROM pg_type
        WHERE typnamespace = 'darkroom'::regnamespace AND typtype IN ('e', 'd', 'c')
            AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class WHERE pg_class.oid = typrelid AND relkind = 'c'))
    LOOP
        EXECUTE format('DROP TYPE IF EXISTS darkroom.%I CASCADE', found.typname);
    END LOOP;
END $$
"""


def upgrade() -> None:
    execute_file(op.get_bind(), "schema/tables.sql")


def downgrade() -> None:
    execute_script(op.get_bind(), DROP_TRIGGERS)
    execute_script(op.get_bind(), DROP_CONTENTS)
