"""The application migrates its own tables, on a database where Darkroom works: nothing of ours is in its way."""

from tests.builders import make_job

DEPENDENT = """
WITH theirs AS (
    SELECT 'pg_class'::regclass AS class, c.oid, c.relname::text AS name FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'pg_type'::regclass, t.oid, t.typname::text FROM pg_type t WHERE t.typnamespace = 'public'::regnamespace)
SELECT DISTINCT pg_describe_object(d.classid, d.objid, d.objsubid) || ' depends on '
    || pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
FROM pg_depend d JOIN theirs t ON t.class = d.refclassid AND t.oid = d.refobjid
LEFT JOIN pg_trigger g ON d.classid = 'pg_trigger'::regclass AND g.oid = d.objid
LEFT JOIN pg_proc f ON f.oid = coalesce(g.tgfoid, CASE d.classid WHEN 'pg_proc'::regclass THEN d.objid END)
LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
LEFT JOIN pg_class v ON v.oid = coalesce(r.ev_class, CASE d.classid WHEN 'pg_class'::regclass THEN d.objid END)
WHERE (f.pronamespace = 'darkroom'::regnamespace OR v.relnamespace = 'darkroom'::regnamespace)
  -- a trigger goes with its table, and stands on no column of it
  AND NOT (g.oid IS NOT NULL AND d.refobjsubid = 0 AND d.deptype = 'a')
"""


async def test_nothing_of_ours_depends_on_the_applications_columns_or_types(database):
    assert [row[0] for row in await database.fetch(DEPENDENT)] == []


async def test_view_of_jobs_finds_one_by_its_index(database):
    await make_job(database)
    plan = await database.fetch("EXPLAIN SELECT * FROM darkroom.jobs WHERE id = 'x'")
    text = "\n".join(row[0] for row in plan)
    assert text.count("Index Scan") == 2, text
