"""Grants on our functions, views and tables: read before an upgrade, and restored after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, text

from models.schema.migrations import installation
from models.schema.migrations.errors import RoleNotGrantedError


@dataclass(frozen=True, slots=True)
class Rights:
    """What an option of `db upgrade` allows a role to call and to read.

    Attributes:
        key: key in darkroom.settings of the roles that were named in this database.
        grant: our SQL function that grants the rights to a role.
        functions: the functions that the role may call.
        tables: the tables that the role may read.
    """

    key: str
    grant: str
    functions: tuple[str, ...]
    tables: tuple[str, ...] = ()


PRODUCERS: Final = Rights(
    "granted_roles",
    "grant_to",
    (
        *("submit_enhancement", "submit_generation", "submit_album", "cancel_job", "cancel_batch", "job_status"),
        *("job_progress", "batch_progress", "regenerate"),
    ),
    ("token_entries",),
)
"""The rights that `--grant` gives."""

READERS: Final = Rights("granted_readers", "grant_read_to", ("job_status", "job_progress", "batch_progress"))
"""The rights that `--grant-read` gives."""

#  0 is PUBLIC. Functions are matched by name, because one with another signature replaces one that is dropped.
_HELD: Final = text("""
    SELECT 'FUNCTION' AS kind, p.proname::text AS name, CASE a.grantee WHEN 0 THEN 'PUBLIC'
           ELSE a.grantee::regrole::text END AS role, a.privilege_type AS privilege, bool_or(a.is_grantable)
    FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) a
    WHERE p.pronamespace = to_regnamespace('darkroom') AND a.grantee <> p.proowner
      AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM pg_roles))
    GROUP BY 2, 3, 4
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, quote_ident(c.relname),
           CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.privilege_type,
           bool_or(a.is_grantable)
    FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'v', 'S') AND NOT c.relispartition
      AND a.grantee <> c.relowner AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM pg_roles))
    GROUP BY 1, 2, 3, 4
    UNION ALL
    SELECT 'COLUMN', c.relname || '.' || quote_ident(t.attname),
           CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END, a.privilege_type,
           bool_or(a.is_grantable)
    FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition
      AND NOT t.attisdropped AND a.grantee <> c.relowner
      AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM pg_roles))
    GROUP BY 1, 2, 3, 4
""")

_COLUMNS: Final = text("""
    SELECT c.relname || '.' || quote_ident(t.attname) FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'v') AND t.attnum > 0
      AND NOT t.attisdropped
""")

# Everything on which rights can be granted, except trigger functions, and the version table, which is only read.
_OBJECTS: Final = text("""
    SELECT 'FUNCTION' AS kind, p.proname::text AS name, 'EXECUTE' AS privilege FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('darkroom') AND p.prorettype <> 'trigger'::regtype
    UNION
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, quote_ident(c.relname), w.what FROM pg_class c
    CROSS JOIN unnest(CASE WHEN c.relkind = 'S' THEN ARRAY['USAGE', 'SELECT']
                           WHEN c.relkind = 'v' OR c.relname = 'alembic_version' THEN ARRAY['SELECT']
                           ELSE ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] END) w (what)
    WHERE c.relnamespace = to_regnamespace('darkroom') AND c.relkind IN ('r', 'p', 'v', 'S') AND NOT c.relispartition
""")

_LACKING: Final = text("""
    SELECT r.rolname::text, p.proname::text FROM pg_roles r
    JOIN pg_proc p ON p.pronamespace = 'darkroom'::regnamespace AND p.proname = ANY (:functions)
    WHERE r.rolname = ANY (:roles) AND NOT has_function_privilege(r.oid, p.oid, 'EXECUTE')
    UNION ALL
    SELECT r.rolname::text, c.relname::text FROM pg_roles r
    JOIN pg_class c ON c.relnamespace = 'darkroom'::regnamespace AND c.relname = ANY (:tables)
    WHERE r.rolname = ANY (:roles) AND NOT has_table_privilege(r.oid, c.oid, 'SELECT')
    ORDER BY 1, 2
""")

_REVOCATIONS: Final = text("""
    SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM %I', p.oid::regprocedure, r.rolname) FROM pg_roles r
    JOIN pg_proc p ON p.pronamespace = 'darkroom'::regnamespace AND p.proname = ANY (:functions)
    WHERE r.rolname = :role
    UNION ALL
    SELECT format('REVOKE SELECT ON %s FROM %I', c.oid::regclass, r.rolname) FROM pg_roles r
    JOIN pg_class c ON c.relnamespace = 'darkroom'::regnamespace AND c.relname = ANY (:tables)
    WHERE r.rolname = :role
""")

_CALLABLE: Final = text("""
    SELECT DISTINCT p.proname::text FROM pg_roles r
    JOIN pg_proc p ON p.pronamespace = 'darkroom'::regnamespace AND p.proname = ANY (:functions)
    WHERE r.rolname = :role AND has_schema_privilege(r.oid, p.pronamespace, 'USAGE')
      AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
    ORDER BY 1
""")

_ANYONES: Final = text("""
    SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'darkroom'::regnamespace
      AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))
""")


@dataclass(frozen=True, slots=True)
class Grant:
    """A right that a role has on an object of ours; `role` is quoted as in SQL, or PUBLIC.

    The name of a COLUMN is `table.column`, quoted as in SQL.
    """

    kind: str
    name: str
    role: str
    privilege: str
    is_grantable: bool

    @property
    def what(self) -> str:
        """The right and its object, as in a GRANT statement."""
        if self.kind == "COLUMN":
            table, _, column = self.name.partition(".")
            return f"{self.privilege} ({column}) ON darkroom.{table}"
        return f"{self.privilege} ON {self.kind} darkroom.{self.name}"


@dataclass(frozen=True, slots=True)
class Held:
    """All grants before an upgrade, and all objects on which rights can be granted."""

    grants: frozenset[Grant]
    objects: frozenset[tuple[str, str, str]]

    def roles_with_everything(self, kind: str) -> list[str]:
        """Return the roles that have every right on all objects of a kind, as a worker's own role must have."""
        needed = {(name, privilege) for one, name, privilege in self.objects if one == kind}
        held: dict[str, set[tuple[str, str]]] = {}
        for grant in self.grants:
            if grant.kind == kind and grant.role != "PUBLIC":
                held.setdefault(grant.role, set()).add((grant.name, grant.privilege))
        return sorted(role for role, rights in held.items() if needed and rights >= needed)


def held(connection: Connection) -> Held:
    """Read every right on our functions, views, tables, columns and sequences, with all grantees and grant options."""
    grants = frozenset(Grant(*row) for row in connection.execute(_HELD))
    objects = frozenset((kind, name, privilege) for kind, name, privilege in connection.execute(_OBJECTS))
    return Held(grants, objects)


def restore_grants(connection: Connection, before: Held) -> None:
    """Revoke rights on new functions from PUBLIC, and restore earlier grants.

    A role that had all rights on the objects of a kind gets all rights on the new ones too.
    """
    public = {grant.name for grant in before.grants if grant.kind == "FUNCTION" and grant.role == "PUBLIC"}
    new = [
        signature
        for signature in connection.scalars(_ANYONES)
        if signature.partition("(")[0].removeprefix("darkroom.") not in public
    ]
    if new:  # in one statement: a first upgrade has hundreds
        connection.execute(text(f"REVOKE EXECUTE ON FUNCTION {_escaped(', '.join(new))} FROM PUBLIC"))
    after = held(connection)
    there = {(kind, name) for kind, name, _ in after.objects}
    there |= {("COLUMN", name) for name in connection.scalars(_COLUMNS)}
    wanted = {grant for grant in before.grants if (grant.kind, grant.name) in there}
    wanted |= {
        Grant(kind, name, role, privilege, is_grantable=False)
        for kind, name, privilege in after.objects - before.objects
        for role in before.roles_with_everything(kind)
    }
    for grant in sorted(wanted - after.grants, key=lambda grant: (grant.kind, grant.name, grant.role)):
        option = " WITH GRANT OPTION" if grant.is_grantable else ""
        connection.execute(text(_escaped(f"GRANT {grant.what} TO {grant.role}{option}")))


def grant(connection: Connection, rights: Rights, role: str | None) -> None:
    """Grant rights to a role, record the role, and grant every recorded role the rights that it lacks now."""
    recorded = list(installation.value_of(connection, rights.key) or [])
    there = set(connection.scalars(text("SELECT rolname::text FROM pg_roles")))
    roles = [one for one in dict.fromkeys([*recorded, *([role] if role is not None else [])]) if one in there]
    lacking = {name for name, _ in _lacking(connection, rights, roles)}
    for one in roles:
        if one in lacking or one == role:
            connection.execute(text(f"SELECT darkroom.{rights.grant}(:role)"), {"role": one})
    if roles or recorded:
        installation.record(connection, rights.key, roles)


def recorded_roles(connection: Connection, rights: Rights) -> tuple[str, ...]:
    """Return the roles that an option of `db upgrade` granted rights to, in that order."""
    return tuple(installation.value_of(connection, rights.key) or ())


def revoke(connection: Connection, role: str) -> tuple[str, ...]:
    """Take back what `db upgrade` granted a role, and take it off the record, also where the role is gone.

    The role keeps what was granted by hand beyond these functions, and USAGE on the schema with it.

    Returns:
        the functions that it may call all the same, because PUBLIC or a role that it belongs to may.

    Raises:
        RoleNotGrantedError: no rights are recorded for the role.
    """
    recorded = {rights: recorded_roles(connection, rights) for rights in (PRODUCERS, READERS)}
    if not any(role in roles for roles in recorded.values()):
        raise RoleNotGrantedError(role, sorted(set().union(*recorded.values())))
    for rights, roles in recorded.items():
        installation.record(connection, rights.key, [one for one in roles if one != role])
    named = {"role": role, "functions": list(PRODUCERS.functions + READERS.functions)}
    tables = list(PRODUCERS.tables + READERS.tables)
    for statement in connection.scalars(_REVOCATIONS, named | {"tables": tables}).all():
        connection.execute(text(_escaped(statement)))
    quoted = connection.scalar(text("SELECT quote_ident(:role)"), {"role": role})
    is_there = connection.scalar(text("SELECT count(*) FROM pg_roles WHERE rolname = :role"), {"role": role})
    if is_there and not any(grant.role == quoted for grant in held(connection).grants):
        connection.execute(text(_escaped(f"REVOKE USAGE ON SCHEMA darkroom FROM {quoted}")))
    return tuple(connection.scalars(_CALLABLE, named))


def lost(connection: Connection) -> Iterator[str]:
    """Yield a sentence for each recorded role that may no longer use what an option of `db upgrade` granted it."""
    for rights in (PRODUCERS, READERS):
        for role, name in _lacking(connection, rights, list(installation.value_of(connection, rights.key) or [])):
            does = "read" if name in rights.tables else "call"
            yield f"role {role} was granted darkroom.{name} and may not {does} it: run darkroom db upgrade"


def _lacking(connection: Connection, rights: Rights, roles: list[str]) -> list[tuple[str, str]]:
    if not roles:
        return []
    named = {"roles": roles, "functions": list(rights.functions), "tables": list(rights.tables)}
    return [(role, name) for role, name in connection.execute(_LACKING, named)]


def _escaped(sql: str) -> str:
    """Escape colons in a name, which SQLAlchemy would take for parameters."""
    return sql.replace(":", r"\:")
