"""What kind of database this is: version, role, extensions, pooler, missing privileges."""

from dataclasses import dataclass

from lifecycle.database import Connection, goes_through_transaction_pooler, rows, value
from lifecycle.declarations.application import Application
from lifecycle.language import Phrase, translatable
from lifecycle.partitions.phrases import phrases

CREATES_SCHEMAS = (
    "select has_database_privilege(current_database(), 'CREATE') or to_regnamespace('lifecycle') is not null"
)
CREATES_IN_PUBLIC = "select has_schema_privilege('public', 'CREATE')"
LEDGER = "select coalesce(has_table_privilege(to_regclass(%s), 'INSERT'), false)"
NOT_OWNED = """
select pg_get_userbyid(relowner) as owner, oid::regclass::text as table
  from pg_class where oid = to_regclass(%(table)s) and not pg_has_role(relowner, 'usage')
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
    missing_privileges: tuple[Phrase, ...]


def probe_database(conn: Connection, application: Application) -> DatabaseFacts:
    """Look at the server behind an autocommit connection; changes nothing and reads declared tables only."""
    version, user, superuser = rows(
        conn,
        "select current_setting('server_version'), rolname::text, rolsuper from pg_roles where rolname = current_user",
    )[0]
    missing = []
    if not value(conn, CREATES_SCHEMAS):
        missing.append(Phrase("CREATE on the database, for the schemas lifecycle and event_partitions"))
    if not value(conn, CREATES_IN_PUBLIC):
        missing.append(Phrase("CREATE on schema public"))
    ledger = application.database.ledger
    if ledger is not None and not value(conn, LEDGER, (str(ledger.table),)):
        missing.append(Phrase("INSERT on {table}, the ledger", table=ledger.table))
    for table in application.event_tables:
        not_owned = translatable("membership in role {owner}, the owner of {table}")
        missing += phrases(conn, not_owned, NOT_OWNED, {"table": str(table)})
    return DatabaseFacts(
        server_version=version.split()[0],
        current_user=user,
        is_superuser=superuser,
        transaction_pooler=goes_through_transaction_pooler(conn),
        read_only=value(conn, "select current_setting('transaction_read_only')::boolean"),
        extensions=tuple(row[0] for row in rows(conn, "select extname::text from pg_extension order by 1")),
        missing_privileges=tuple(missing),
    )
