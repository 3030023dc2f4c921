"""How erasures stand as a whole: what failed after it was erased, what the map lacks, receipts, sign-in users, age."""

from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.erasures.proof import BrokenReceipt, broken_receipts

# Erased, and then the search or the receipt failed: the error names tables and columns.
UNPROVED: Final = """
select coalesce(last_error, 'no reason was recorded'), count(*)
  from lifecycle.deletion_jobs where state = 'failed' and erased_at is not null group by 1 order by 2 desc, 1
"""
UNMAPPED: Final = "select table_name || '.' || column_name from lifecycle.unmapped_columns() order by 1"
# What names something that does not exist would pass over a person's rows, or fail.
MISSING: Final = """
select distinct m.table_name || '.' || m.column_name from (
    select s.table_name, n.column_name, s.optional
      from lifecycle.erasure_steps s
     cross join lateral (select s.key_column union select s.unowned_column
                          union select jsonb_object_keys(s.replacements)) n(column_name)
     where n.column_name <> all (s.optional_columns)
     union
    select k.table_name, n.column_name, k.optional
      from lifecycle.erasure_key_sources k
     cross join lateral (values (k.by_column), (k.taken_column), (k.given_column), (k.unowned_column)) n(column_name)
     where k.table_name is not null
     union
    select l.table_name, n.column_name, l.optional
      from lifecycle.erasure_key_limits l cross join lateral (values (l.column_name), (l.owner_column)) n(column_name)
     where l.table_name is not null) m
 where m.column_name is not null and not (m.optional and not lifecycle.is_there(m.table_name))
   and not exists (select from pg_attribute a join pg_class c on c.oid = a.attrelid
                     join pg_namespace n on n.oid = c.relnamespace
                    where format('%I.%I', n.nspname, c.relname) = m.table_name and a.attname = m.column_name
                      and not a.attisdropped)
 order by 1
"""
SIGN_IN_USERS: Final = """
select sign_in_user, count(*) from lifecycle.deletion_jobs
 where state = 'verified' and sign_in_user like 'left:%' group by 1 order by 2 desc, 1
"""
OPEN: Final = """
select state, floor(extract(epoch from due_at - now()) / 86400)::int, count(*)
  from lifecycle.deletion_jobs where state not in ('verified', 'cancelled') group by 1, 2 order by 1, 2
"""


@dataclass(frozen=True)
class OpenRequests:
    """How many requests of one state have so many whole days left until their deadline; negative when overdue."""

    state: str
    days_left: int
    requests: int


@dataclass(frozen=True)
class ErasureHealth:
    """What must be empty. `unproved` and `sign_in_users_left` count requests per reason."""

    unproved: tuple[tuple[str, int], ...]
    unmapped_columns: tuple[str, ...]
    missing_columns: tuple[str, ...]
    broken_receipts: tuple[BrokenReceipt, ...]
    sign_in_users_left: tuple[tuple[str, int], ...]


def erasure_health(conn: Connection) -> ErasureHealth:
    """Look at all of it; psycopg's UndefinedTable before `lifecycle migrate`."""
    return ErasureHealth(
        unproved=tuple((error, count) for error, count in rows(conn, UNPROVED)),
        unmapped_columns=tuple(name for (name,) in rows(conn, UNMAPPED)),
        missing_columns=tuple(name for (name,) in rows(conn, MISSING)),
        broken_receipts=broken_receipts(conn),
        sign_in_users_left=tuple((outcome, count) for outcome, count in rows(conn, SIGN_IN_USERS)),
    )


def open_requests(conn: Connection) -> tuple[OpenRequests, ...]:
    """Requests that are not carried out yet, by state and days left."""
    return tuple(OpenRequests(*row) for row in rows(conn, OPEN))
