"""What kind of database this is: version, role, extensions, pooler, missing privileges."""

from dataclasses import dataclass

from lifecycle.database import Connection, goes_through_transaction_pooler, rows
from lifecycle.policy import EVENT_TABLES

PRIVILEGES = """
select reason from (values
    (has_database_privilege(current_database(), 'CREATE') or to_regnamespace('lifecycle') is not null,
     'CREATE on the database, for the schemas lifecycle and event_partitions'),
    (has_schema_privilege('public', 'CREATE'), 'CREATE on schema public'),
    (coalesce(has_table_privilege(to_regclass('public.audit_events'), 'INSERT'), false),
     'INSERT on public.audit_events, the ledger')
) needed(granted, reason) where not granted
"""
NOT_OWNED = """
select format('membership in role %%s, the owner of %%s', pg_get_userbyid(relowner), oid::regclass)
  from pg_class where oid = to_regclass(%s) and not pg_has_role(relowner, 'usage')
"""


@dataclass(frozen=True)
class DatabaseFacts:
    """What every operation depends on. `missing_privileges` says what to grant, one phrase each."""

    server_version: str
    current_user: str
    is_superuser: bool
    transaction_pooler: bool
    extensions: tuple[str, ...]
    missing_privileges: tuple[str, ...]


def probe_database(conn: Connection) -> DatabaseFacts:
    """Look at the server behind an autocommit connection; changes nothing."""
    version, user, superuser = rows(
        conn,
        "select current_setting('server_version'), rolname::text, rolsuper from pg_roles where rolname = current_user",
    )[0]
    missing = [row[0] for row in rows(conn, PRIVILEGES)]
    for table in EVENT_TABLES:
        missing += [row[0] for row in rows(conn, NOT_OWNED, (table.qualified_name,))]
    return DatabaseFacts(
        server_version=version.split()[0],
        current_user=user,
        is_superuser=superuser,
        transaction_pooler=goes_through_transaction_pooler(conn),
        extensions=tuple(row[0] for row in rows(conn, "select extname::text from pg_extension order by 1")),
        missing_privileges=tuple(missing),
    )
