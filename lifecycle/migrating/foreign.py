"""Whether a database is the application's at all: nothing is made, planned or told in somebody else's."""

from typing import Final

from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.named import declared_names
from lifecycle.errors import RefusedError
from lifecycle.language import _
from lifecycle.migrating.state import is_migrated

ANY_THERE: Final = """
select exists (select from unnest(%s::text[], %s::text[]) d(schema_name, relation_name)
                 join pg_class c on c.relname = d.relation_name
                 join pg_namespace n on n.oid = c.relnamespace and n.nspname = d.schema_name)
"""


def refuse_a_foreign_database(conn: Connection, application: Application) -> None:
    """RefusedError where none of the relations that the declarations name exists, and no migration has run."""
    declared = sorted(declared_names(application), key=str)
    there = not declared or value(conn, ANY_THERE, ([n.schema for n in declared], [n.name for n in declared]))
    if not there and not is_migrated(conn):
        known = sorted(str(relation.name) for relation in application.relations if relation.kind == "table")
        example = _(", such as {table}").format(table=known[0]) if known else ""
        told = _(
            "database {database} holds nothing that is declared{example}: it is empty, or another application's. Name "
            "the application's database in LIFECYCLE_DATABASE_URL, or the folder of its declarations in "
            "LIFECYCLE_APPLICATION. Nothing was changed."
        )
        raise RefusedError(told.format(database=conn.info.dbname, example=example))
