"""What stands around an archive: its policy, the view of recent rows, the reading function, the groups' triggers."""

from collections.abc import Iterator
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.archive.grants import PUBLIC, close, open_like, readers, role
from lifecycle.archive.layout import Layout
from lifecycle.database import Connection, rows, value
from lifecycle.names import QualifiedName

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
POLICY: Final = "lifecycle_readers"
POLICY_COMMENT: Final = """
select obj_description(p.oid, 'pg_policy') from pg_policy p where p.polrelid = to_regclass(%s) and p.polname = %s
"""
# Also one that is left behind on a former table of groups.
TRIGGERS: Final = """
select n.nspname::text, c.relname::text, t.tgname::text, t.tgargs
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
 where t.tgfoid = to_regprocedure('lifecycle.archived_groups_gone()') and t.tgparentid = 0
"""
VIEW: Final = """
select array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 order by a.attnum),
       coalesce('security_invoker=true' = any (c.reloptions), false)
         and position(%s::interval::text in pg_get_viewdef(c.oid)) > 0
  from pg_class c where c.oid = to_regclass(%s)
"""
FUNCTION: Final = "select p.prosrc from pg_proc p where p.oid = to_regprocedure(%s)"
# Nobody without a sign-in has conversations of its own.
NOT_CALLERS: Final = ("anon", PUBLIC)


def keep_surroundings(conn: Connection, layout: Layout) -> Iterator[str]:
    """Make what is missing or differs, each in a short transaction; a line per change."""
    for step in (_policy, _recent_view, _read_function, _triggers):
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            yield from step(conn, layout)


def _arguments(layout: Layout) -> tuple[str, ...]:
    source, declared = layout.archive.source, layout.archive.declared
    groups = declared.groups
    return source.schema, source.name, declared.group, groups.table.schema, groups.table.name, groups.id


def leave_group_policy(conn: Connection, layout: Layout) -> None:
    """Until it is made again nobody but the owner reads the archive."""
    name = layout.archive.declared.archive
    conn.execute(sql.SQL("drop policy if exists {} on {}").format(sql.Identifier(POLICY), name.identifier))


def _policy(conn: Connection, layout: Layout) -> Iterator[str]:
    archive = layout.archive.declared
    told = f"by lifecycle.readable_groups{_arguments(layout)}, the path asked once"
    if value(conn, POLICY_COMMENT, (str(archive.archive), POLICY)) == told:
        return
    leave_group_policy(conn, layout)
    group = layout.column(archive.group)
    conn.execute(
        sql.SQL(
            "create policy {policy} on {table} for select using ({group} = any (array("
            "select g::{kind} from lifecycle.readable_groups({arguments}, (select current_setting('search_path'))) g)))"
        ).format(
            policy=sql.Identifier(POLICY),
            table=archive.archive.identifier,
            group=sql.Identifier(archive.group),
            kind=sql.SQL(group.stored),
            arguments=sql.SQL(", ").join(map(sql.Literal, _arguments(layout))),
        )
    )
    conn.execute(
        sql.SQL("comment on policy {} on {} is {}").format(
            sql.Identifier(POLICY), archive.archive.identifier, sql.Literal(told)
        )
    )
    yield f"archive {archive.archive}: policy made"


def _recent_view(conn: Connection, layout: Layout) -> Iterator[str]:
    archive, view = layout.archive, layout.archive.declared.recent_view
    if view is None:
        return
    columns = [column.name for column in layout.columns]
    window = f"{round(archive.keep_for.total_seconds())} seconds"
    found = rows(conn, VIEW, (window, str(view)))
    if found == [(columns, True)]:
        return
    since = layout.moment(sql.SQL("(now() - interval {})").format(sql.Literal(window)))
    statement = sql.SQL(
        "create or replace view {view} with (security_invoker = true) as select {columns} from {source} m"
        " where m.{time} >= {since}"
    ).format(
        view=view.identifier,
        columns=sql.SQL(", ").join(sql.SQL("m.{}").format(sql.Identifier(name)) for name in columns),
        source=archive.source.identifier,
        time=sql.Identifier(archive.declared.time),
        since=since,
    )
    before = found[0][0] if found else []
    if before != columns[: len(before)] or not _done(conn, statement):
        # A column has another name or type, which `or replace` cannot.
        conn.execute(sql.SQL("drop view if exists {}").format(view.identifier))
        conn.execute(statement)
        before = []
    if not before:
        close(conn, view)
    told = f"Rows of {archive.source} of the last {archive.declared.after}: what the archive will not take. "
    told += "Each reader sees what they see there."
    conn.execute(sql.SQL("comment on view {} is {}").format(view.identifier, sql.Literal(told)))
    new = {name: [name] for name in columns if name not in before}
    open_like(conn, archive.source, view, new)
    yield f"view {view}: {'takes up ' + ', '.join(new) if before else 'made'}"


def _done(conn: Connection, statement: sql.Composed) -> bool:
    try:
        with conn.transaction():
            conn.execute(statement)
    except psycopg.errors.InvalidTableDefinition:
        return False
    return True


def _read_function(conn: Connection, layout: Layout) -> Iterator[str]:
    """Runs as the caller, so the policy of the archive decides."""
    archive = layout.archive.declared
    name = archive.read_function
    if name is None:
        return
    kind = layout.column(archive.group).stored
    signature = f"{name}({kind})"
    body = sql.SQL("\n    select a.* from {} a where a.{} = {}.{} order by a.{}, a.{}\n").format(
        archive.archive.identifier,
        sql.Identifier(archive.group),
        sql.Identifier(name.name),
        sql.Identifier(archive.group),
        sql.Identifier(archive.time),
        sql.Identifier(archive.id),
    )
    if value(conn, FUNCTION, (signature,)) == body.as_string(conn):
        return
    conn.execute(sql.SQL("drop function if exists {}").format(sql.SQL(signature)))
    conn.execute(
        sql.SQL("create function {}({} {}) returns setof {} language sql stable set search_path = '' as {}").format(
            name.identifier,
            sql.Identifier(archive.group),
            sql.SQL(kind),
            archive.archive.identifier,
            sql.Literal(body.as_string(conn)),
        )
    )
    told = "The archived rows of one group, oldest first. The caller sees what the policy of the archive lets them see."
    conn.execute(sql.SQL("comment on function {} is {}").format(sql.SQL(signature), sql.Literal(told)))
    _open_function(conn, signature, archive.archive)
    yield f"function {signature}: made"


def _open_function(conn: Connection, signature: str, archive: QualifiedName) -> None:
    callers = [name for name, columns in readers(conn, archive).items() if name not in NOT_CALLERS and "" in columns]
    granted = rows(
        conn,
        """select distinct case when a.grantee = 0 then 'public' else pg_get_userbyid(a.grantee) end
             from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            where p.oid = to_regprocedure(%s) and a.grantee <> p.proowner""",
        (signature,),
    )
    for (grantee,) in granted:
        conn.execute(sql.SQL("revoke all on function {} from {}").format(sql.SQL(signature), role(grantee)))
    for grantee in callers:
        conn.execute(sql.SQL("grant execute on function {} to {}").format(sql.SQL(signature), role(grantee)))


def _triggers(conn: Connection, layout: Layout) -> Iterator[str]:
    archive, declared = layout.archive, layout.archive.declared
    table, name = declared.groups.table, declared.archive
    group = layout.column(declared.group)
    arguments = [name.schema, name.name, declared.group, declared.groups.id, group.stored, archive.job]
    wanted = (
        {_trigger_name(name.name, event) for event in ("deleted", "truncated")} if layout.goes_with_group else set()
    )
    found = set()
    for schema, owner, trigger, given in rows(conn, TRIGGERS):
        made_with = [argument.decode() for argument in bytes(given).split(b"\0")[:-1]]
        if made_with[:2] != arguments[:2]:
            continue
        if QualifiedName(schema, owner) == table and trigger in wanted and made_with == arguments:
            found.add(trigger)
            continue
        conn.execute(sql.SQL("drop trigger {} on {}").format(sql.Identifier(trigger), sql.Identifier(schema, owner)))
        yield f"trigger {trigger} on {QualifiedName(schema, owner)}: dropped"
    for trigger in sorted(wanted - found):
        event = "delete on {} referencing old table as gone" if trigger.endswith("deleted") else "truncate on {}"
        conn.execute(
            sql.SQL(
                "create trigger {} after {} for each statement execute function lifecycle.archived_groups_gone({})"
            ).format(
                sql.Identifier(trigger),
                sql.SQL(event).format(table.identifier),
                sql.SQL(", ").join(map(sql.Literal, arguments)),
            )
        )
        yield f"trigger {trigger} on {table}: made"


def _trigger_name(stem: str, event: str) -> str:
    """Within the 63 bytes that PostgreSQL gives a name."""
    return f"lifecycle_{stem.encode()[:40].decode(errors='ignore')}_{event}"
