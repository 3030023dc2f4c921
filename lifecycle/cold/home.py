"""Which database the files belong to: a copy of it knows the same files, and must not touch them."""

from typing import Final

from lifecycle.database import Connection, value
from lifecycle.errors import RefusedError

# The first database that has files is their home.
SETTLE: Final = """
insert into lifecycle.cold_home (server, database)
select s.system_identifier, d.oid from pg_control_system() s join pg_database d on d.datname = current_database()
on conflict do nothing
"""
IS_HOME: Final = """
select exists (select from lifecycle.cold_home h join pg_control_system() s on s.system_identifier = h.server
                 join pg_database d on d.oid = h.database and d.datname = current_database())
"""
MOVE_IN: Final = """
update lifecycle.cold_home h
   set server = s.system_identifier, database = d.oid, since = clock_timestamp()
  from pg_control_system() s join pg_database d on d.datname = current_database()
 where (h.server, h.database) is distinct from (s.system_identifier, d.oid)
"""


def require_home(conn: Connection) -> None:
    """RefusedError unless this is the database that the files belong to; the first that asks is it.

    Ask before an object is written or removed. A dump that was restored, a clone for tests, an upgraded server: the
    manifest came along, and the database that it came from may still live on its files.
    """
    if not value(conn, IS_HOME):
        conn.execute(SETTLE)
        if not value(conn, IS_HOME):
            raise RefusedError(
                "this database is a copy of one whose cold months are in the store, and would change or remove that "
                "one's files. Nothing was touched. Give a copy a LIFECYCLE_COLD_URL of its own; if the other database "
                "is gone for good (restored elsewhere, upgraded), run `lifecycle cold adopt`, then this again."
            )


def adopt_files(conn: Connection) -> bool:
    """Make this database the one that the files belong to; whether it was not before."""
    return bool(conn.execute(MOVE_IN).rowcount)
