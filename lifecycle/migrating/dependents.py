"""What hangs on a database function that has to be dropped: triggers and policies, taken off and put back."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg

from lifecycle.database import Connection, rows, value
from lifecycle.errors import RefusedError

OID: Final = """
select p.oid::bigint from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where quote_ident(n.nspname) || '.' || quote_ident(p.proname) || '(' ||
       pg_get_function_identity_arguments(p.oid) || ')' = %s
"""
# Clones of a trigger on partitions come and go with the one on their parent.
TRIGGERS: Final = """
select format('drop trigger %%I on %%s', t.tgname, t.tgrelid::regclass),
       pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' else
           format('; alter table %%s %%s trigger %%I', t.tgrelid::regclass,
                  case t.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end,
                  t.tgname) end
  from pg_trigger t
 where t.tgfoid = %s and not t.tgisinternal and t.tgparentid = 0
 order by t.tgrelid, t.tgname
"""
POLICIES: Final = """
select format('drop policy %%I on %%s', p.polname, p.polrelid::regclass),
       format('create policy %%I on %%s as %%s for %%s to %%s', p.polname, p.polrelid::regclass,
              case when p.polpermissive then 'permissive' else 'restrictive' end,
              case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update'
                            when 'd' then 'delete' else 'all' end,
              (select string_agg(case when r = 0 then 'public' else quote_ident(pg_get_userbyid(r)) end, ', ')
                 from unnest(p.polroles) r))
       || coalesce(' using (' || pg_get_expr(p.polqual, p.polrelid) || ')', '')
       || coalesce(' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '')
  from pg_policy p
 where exists (select from pg_depend d
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_proc'::regclass and d.refobjid = %s)
 order by p.polrelid, p.polname
"""


@dataclass(frozen=True)
class Dependents:
    """Statements that make again what was taken off."""

    statements: tuple[str, ...] = ()

    def put_back(self, conn: Connection, signature: str) -> None:
        """Make them again on what replaced `signature`; RefusedError when that cannot carry them."""
        for statement in self.statements:
            try:
                conn.execute(statement.encode())
            except psycopg.errors.UndefinedFunction as error:
                raise RefusedError(
                    f"function {signature} is replaced by one with other parameters, and what uses it does not fit: "
                    f"{statement}. Drop that, run `lifecycle migrate` again, and make it anew for the new function."
                ) from error


def take_off(conn: Connection, signature: str) -> Dependents:
    """Drop the triggers and policies that use a function, in the transaction that is open; nothing else is touched."""
    return Dependents(tuple(_taken_off(conn, signature)))


def _taken_off(conn: Connection, signature: str) -> Iterator[str]:
    for query in (TRIGGERS, POLICIES):
        for drop, create in rows(conn, query, (value(conn, OID, (signature,)),)):
            conn.execute(drop.encode())
            yield create
