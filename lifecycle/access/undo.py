"""The way back: policies and grants as they were before `lifecycle migrate` changed them."""

from collections.abc import Iterator
from typing import Final

from lifecycle.database import Connection, value
from lifecycle.declarations.application import Application

STANDS: Final = "select to_regclass('lifecycle.access_changes') is not null"
# The newest change goes back first. What had been as declared already, and was only repaired, stays.
GIVE_BACK: Final = """
do $$
declare
    found record;
begin
    for found in
        select p.polname, p.polrelid::regclass as relation from pg_policy p
         where p.polname like 'lifecycle: %'
    loop
        execute format('drop policy %I on %s', found.polname, found.relation);
    end loop;
    for found in
        select c.*, case when c.object like '%)' then 'routine' else 'table' end as what,
               case when c.subject = 'public' then 'public' else quote_ident(c.subject) end as grantee
          from lifecycle.access_changes c
         where case when c.object like '%)' then to_regprocedure(c.object)::oid
                    else to_regclass(c.object)::oid end is not null
           and not c.repaired
           and (c.change not in ('revoke', 'grant', 'grant option') or c.subject = 'public'
                or to_regrole(quote_ident(c.subject)) is not null)
         order by c.id desc
    loop
        case found.change
            when 'revoke', 'grant option' then
                execute format('grant %s on %s %s to %s %s', found.detail, found.what, found.object, found.grantee,
                               case when found.grantable then 'with grant option' else '' end);
            when 'grant' then
                execute format('revoke %s on %s %s from %s', found.detail, found.what, found.object, found.grantee);
            when 'row security' then
                execute format('alter table %s disable row level security', found.object);
            when 'policy roles' then
                if exists (select from pg_policy p
                            where p.polrelid = found.object::regclass and p.polname = found.subject) then
                    execute format('alter policy %I on %s to %s', found.subject, found.object, found.detail);
                end if;
        end case;
    end loop;
end $$
"""


def take_back(conn: Connection, _application: Application) -> Iterator[str]:
    """Drop the policies of ours, and give back what was taken; needs nothing of the declarations."""
    if not value(conn, STANDS):
        return
    with conn.transaction():
        conn.execute(GIVE_BACK.encode())
        conn.execute("delete from lifecycle.access_changes")
        conn.execute("delete from lifecycle.accepted_access")
    yield "access: policies of ours are dropped, grants and row-level security are as they were"
