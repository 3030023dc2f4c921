"""What kind of database this is: version, role, extensions, pooler, missing privileges."""

from dataclasses import dataclass

from lifecycle.database import Connection, goes_through_transaction_pooler, rows, value
from lifecycle.declarations.application import Application

PRIVILEGES = """
select reason from (values
    (has_database_privilege(current_database(), 'CREATE') or to_regnamespace('lifecycle') is not null,
     'CREATE on the database, for the schemas lifecycle and event_partitions'),
    (has_schema_privilege('public', 'CREATE'), 'CREATE on schema public')
) needed(granted, reason) where not granted
"""
LEDGER = "select coalesce(has_table_privilege(to_regclass(%s), 'INSERT'), false)"
NOT_OWNED = """
select format('membership in role %%s, the owner of %%s', pg_get_userbyid(relowner), oid::regclass)
  from pg_class where oid = to_regclass(%s) and not pg_has_role(relowner, 'usage')
"""


@dataclass(frozen=True)
class DatabaseFacts:
    """What every operation depends on. `missing_privileges` says what to grant, one phrase each; `read_only` is so on a
    standby, and where the disk is nearly full on Supabase."""

    server_version: str
    current_user: str
    is_superuser: bool
    transaction_pooler: bool
    read_only: bool
    extensions: tuple[str, ...]
    missing_privileges: tuple[str, ...]


def probe_database(conn: Connection, application: Application) -> DatabaseFacts:
    """Look at the server behind an autocommit connection; changes nothing and reads declared tables only."""
    version, user, superuser = rows(
        conn,
        "select current_setting('server_version'), rolname::text, rolsuper from pg_roles where rolname = current_user",
    )[0]
    missing = [row[0] for row in rows(conn, PRIVILEGES)]
    ledger = application.database.ledger
    if ledger is not None and not value(conn, LEDGER, (str(ledger.table),)):
        missing.append(f"INSERT on {ledger.table}, the ledger")
    for table in application.event_tables:
        missing += [row[0] for row in rows(conn, NOT_OWNED, (str(table),))]
    return DatabaseFacts(
        server_version=version.split()[0],
        current_user=user,
        is_superuser=superuser,
        transaction_pooler=goes_through_transaction_pooler(conn),
        read_only=value(conn, "select current_setting('transaction_read_only')::boolean"),
        extensions=tuple(row[0] for row in rows(conn, "select extname::text from pg_extension order by 1")),
        missing_privileges=tuple(missing),
    )
