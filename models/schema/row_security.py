"""Protection against row-level security that is enabled while Darkroom works: hidden rows must not look deleted."""

from typing import Final

REFUSE_FILTERED_ROWS: Final = """
SELECT set_config('row_security', 'off', false)
WHERE NOT EXISTS (SELECT FROM pg_class c
                  WHERE c.relrowsecurity AND c.relnamespace IN (to_regnamespace('public'), to_regnamespace('darkroom'))
                    AND (row_security_active(c.oid)
                         OR EXISTS (SELECT FROM pg_proc f JOIN pg_roles r ON r.oid = f.proowner
                                    WHERE f.pronamespace = to_regnamespace('darkroom') AND f.prosecdef
                                      AND NOT r.rolsuper AND NOT r.rolbypassrls
                                      AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE')))))
"""
"""Statement after which PostgreSQL refuses a query of this session that row security would filter.

It has no effect if a policy shows Darkroom's role all rows. It is only for a session of Darkroom's own: behind a
transaction pooler, other programs use the session next.
"""
