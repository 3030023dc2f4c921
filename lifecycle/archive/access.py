"""Whether an archive is as closed as the table it was made of; the application may change its grants at any time."""

from dataclasses import dataclass
from typing import Final

from lifecycle.archive.grants import readers
from lifecycle.archive.layout import Archive
from lifecycle.archive.surroundings import POLICY
from lifecycle.database import Connection, rows

OTHERS: Final = """
select 'policy', p.polname::text, 'was not made by us: it opens or closes more than the table itself'
  from pg_policy p where p.polrelid = to_regclass(%(archive)s) and p.polname <> %(ours)s
union all
select 'policy', %(ours)s, 'is missing: nobody but the owner reads the archive'
 where not exists (select from pg_policy p where p.polrelid = to_regclass(%(archive)s) and p.polname = %(ours)s)
union all
select 'row-level security', %(archive)s, 'is off'
  from pg_class c where c.oid = to_regclass(%(archive)s) and not c.relrowsecurity
union all
select 'grant', case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end,
       'may ' || a.privilege_type || ' the archive'
  from pg_class c cross join lateral aclexplode(c.relacl) a
 where c.oid = to_regclass(%(archive)s) and a.grantee <> c.relowner and a.privilege_type <> 'SELECT'
 union all
select 'reader', pg_get_userbyid(a.grantee),
       'may read the archive and not execute lifecycle.readable_groups: sees no row'
  from pg_class c cross join lateral aclexplode(c.relacl) a
 where c.oid = to_regclass(%(archive)s) and a.privilege_type = 'SELECT' and a.grantee not in (0, c.relowner)
   and not has_function_privilege(a.grantee, 'lifecycle.readable_groups(text,text,text,text,text,text,text)', 'execute')
 order by 1, 2, 3
"""


@dataclass(frozen=True)
class AccessDifference:
    """What differs: a policy, a grant, a reader, or row-level security; its name, and how."""

    what: str
    name: str
    told: str


def access_differences(conn: Connection, archive: Archive) -> tuple[AccessDifference, ...]:
    """Where who may read the archive differs from who may read its table; empty when nothing does."""
    name = archive.declared.archive
    found = [AccessDifference(*row) for row in rows(conn, OTHERS, {"archive": str(name), "ours": POLICY})]
    source, kept = readers(conn, archive.source), readers(conn, name)
    found += [
        AccessDifference("reader", role, f"may read the archive and not {archive.source}")
        for role in sorted(kept.keys() - source.keys())
    ]
    found += [
        AccessDifference("reader", role, f"may read {archive.source} and not the archive")
        for role in sorted(source.keys() - kept.keys())
    ]
    return tuple(found)
