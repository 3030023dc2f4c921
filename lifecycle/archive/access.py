"""Whether the archive is as closed as the messages it was made of; the application may change theirs at any time."""

from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows

# Conditions are compared as PostgreSQL prints them, with the table's own name taken out. A policy that lets nobody read
# a text that cannot be asked for any more (revision 0009) is stricter, and no difference.
DIFFERENCES: Final = r"""
with policy as (
    select p.polrelid = 'public.chat_messages_archive'::regclass as archive, p.polname::text as name, p.polpermissive,
           (select array_agg(r order by r) from unnest(p.polroles) r) as roles,
           replace(pg_get_expr(p.polqual, p.polrelid), 'chat_messages_archive.', 'chat_messages.') as condition
      from pg_policy p
     where p.polrelid in ('public.chat_messages'::regclass, 'public.chat_messages_archive'::regclass)
       and p.polcmd in ('r', '*') and p.polqual is not null
), reader as (
    select c.oid = 'public.chat_messages_archive'::regclass as archive,
           case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end as name
      from pg_class c cross join lateral aclexplode(c.relacl) a
     where c.oid in ('public.chat_messages'::regclass, 'public.chat_messages_archive'::regclass)
       and a.privilege_type = 'SELECT'
)
select 'policy', coalesce(m.name, a.name),
       case when a.name is null then 'is missing on the archive' when m.name is null then 'stands on the archive only'
            else 'differs' end
  from (select * from policy where not archive) m
  full join (select * from policy where archive) a using (name)
 where (m.polpermissive, m.roles, m.condition) is distinct from (a.polpermissive, a.roles, a.condition)
   and a.condition is distinct from 'false' and coalesce(m.condition, '') !~ '\mcontent\M'
union all
select 'reader', a.name, 'may read the archive and not chat_messages'
  from (select name from reader where archive except select name from reader where not archive) a
union all
select 'reader', m.name, 'may read chat_messages and not the archive'
  from (select name from reader where not archive except select name from reader where archive) m
union all
select 'row-level security', 'chat_messages_archive', 'is off'
  from pg_class c where c.oid = 'public.chat_messages_archive'::regclass and not c.relrowsecurity
 order by 1, 2
"""


@dataclass(frozen=True)
class AccessDifference:
    """What differs: a policy, a reader, or row-level security; its name, and how."""

    what: str
    name: str
    told: str


def access_differences(conn: Connection) -> tuple[AccessDifference, ...]:
    """Where who may read the archive differs from who may read chat_messages; empty when nothing does."""
    return tuple(AccessDifference(*row) for row in rows(conn, DIFFERENCES))
