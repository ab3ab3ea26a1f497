"""Who may create in an application's schema, and so put functions in the way of an operator's fragments."""

from typing import Final

from models.connections import Connection
from models.job_tables.quoting import quoted_name

# Whoever is a member of the owner may act as the owner. A superuser may do everything anyway, and who upgrades owns the
# functions that fragments become part of.
_CREATORS: Final = """
SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END AS role
FROM pg_catalog.pg_namespace n
CROSS JOIN LATERAL pg_catalog.aclexplode(coalesce(n.nspacl, pg_catalog.acldefault('n', n.nspowner))) a
LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee
WHERE n.nspname = $1 AND a.privilege_type = 'CREATE' AND a.grantee <> n.nspowner AND NOT coalesce(r.rolsuper, false)
  AND (a.grantee = 0 OR r.rolname <> current_user AND NOT pg_catalog.pg_has_role(a.grantee, n.nspowner, 'MEMBER'))
GROUP BY 1 ORDER BY 1
"""


async def creators_fault(connection: Connection, schema: str, file_name: str) -> str | None:
    """Return why fragments of a file may not run in a schema: others may create in it. None if nobody else may.

    Others are roles other than the schema's owner and its members, superusers, and the role of this connection.
    """
    roles = [row["role"] for row in await connection.fetch(_CREATORS, schema)]
    if not roles:
        return None
    named = " and ".join(filter(None, [", ".join(roles[:-1]), roles[-1]]))
    return (
        f"{file_name}: {named} may create in schema {schema}, where what they create could take the place of what the "
        f"file's SQL names; run REVOKE CREATE ON SCHEMA {quoted_name(schema)} FROM {', '.join(roles)}"
    )
