"""A database of `lifecycle migrate --dev`: everything has its name, and nothing of the application's does other work.

For databases that somebody throws away: a local one after a reset, a preview branch, continuous integration. Views
answer by the application's own definitions, event tables stay plain, no statement of the application is noted.
"""

from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.errors import RefusedError
from lifecycle.migrating.revisions import STATE_SCHEMA
from lifecycle.partitions.tables import PARTITION_SCHEMA

# At the end of what is said of our schema, where psql shows it.
NAMES_ONLY: Final = " Names only, of `lifecycle migrate --dev`; `lifecycle migrate` makes the rest."
COMMENT: Final = "select coalesce(obj_description(to_regnamespace(%s), 'pg_namespace'), '')"
TELL: Final = sql.SQL("comment on schema {} is {}")
KEPT: Final = """
select format('view %I.%I answers from a table', schema_name, view_name) from lifecycle.kept_views order by 1
"""
HAS_KEPT: Final = "select to_regclass('lifecycle.kept_views') is not null"
PARTITIONED: Final = """
select distinct format('table %%s has partitions', i.inhparent::regclass)
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where c.relnamespace = to_regnamespace(%s) and c.relispartition and c.relkind = 'r' order by 1
"""


def refuse_an_adopted_database(conn: Connection) -> None:
    """RefusedError where views are kept or event tables are partitioned: `--dev` takes nothing back."""
    found = [told for (told,) in rows(conn, KEPT)] if value(conn, HAS_KEPT) else []
    found += [told for (told,) in rows(conn, PARTITIONED, (PARTITION_SCHEMA,))]
    if found:
        more = f", and {len(found) - 1} more like it" if len(found) > 1 else ""
        raise RefusedError(
            f"this database is adopted for good: {found[0]}{more}. `--dev` is for local databases, branches and tests, "
            "which somebody makes anew; run `lifecycle migrate` without it."
        )


def is_names_only(conn: Connection) -> bool:
    """Whether the last migration here was one of `--dev`."""
    return str(value(conn, COMMENT, (STATE_SCHEMA,))).endswith(NAMES_ONLY)


def tell_names_only(conn: Connection, *, dev: bool) -> list[str]:
    """Write down which of the two migrations this is, where people and `lifecycle check` look; a line if it changed."""
    if is_names_only(conn) == dev:
        return []
    said = str(value(conn, COMMENT, (STATE_SCHEMA,))).removesuffix(NAMES_ONLY)
    conn.execute(TELL.format(sql.Identifier(STATE_SCHEMA), sql.Literal(said + NAMES_ONLY if dev else said)))
    if dev:
        return ["names only: views keep their own definitions, event tables stay plain, no change is noted"]
    return ["no longer names only: views are kept and changes are noted from now on, where that is declared"]
