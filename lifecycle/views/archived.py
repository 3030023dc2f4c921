"""Which views have to see an archive beside its table, and making them do so; and taking it back.

Kept views do so by themselves (keep.py). All others that read an archived table are given both here: a view is replaced
in place, a materialized view is built anew beside and exchanged.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.archive.layout import Archive, Layout, archives_of, exists, read_layout
from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName
from lifecycle.views.catalog import View, read_view
from lifecycle.views.definition import order_over_outputs
from lifecycle.views.rebuild import rebuild
from lifecycle.views.seam import inner_definition, needs_old_texts, over_both, read_both

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
READERS: Final = """
select distinct n.nspname::text, c.relname::text
  from pg_depend d join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  join pg_class c on c.oid = w.ev_class join pg_namespace n on n.oid = c.relnamespace
 where d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass(%s) and c.oid <> d.refobjid
   and c.oid is distinct from to_regclass(%s) order by 1, 2
"""


@dataclass(frozen=True)
class Blind:
    """A view that reads an archived table and nothing of its archive; `told` says what that comes to."""

    view: QualifiedName
    archive: Archive
    told: str


def archive_layouts(conn: Connection, application: Application) -> dict[QualifiedName, Layout]:
    """The declared archives that exist, by the table that they were made for."""
    return {
        archive.source: read_layout(conn, archive)
        for archive in archives_of(application.archived_tables)
        if exists(conn, archive.source) and exists(conn, archive.declared.archive)
    }


def show_archives(conn: Connection, layouts: Mapping[QualifiedName, Layout]) -> Iterator[str]:
    """Let every view that reads an archived table read its archive, too; a line per view that was changed or not."""
    for layout in layouts.values():
        recent = layout.archive.declared.recent_view
        for schema, relation in rows(conn, READERS, (str(layout.archive.source), str(recent) if recent else None)):
            name = QualifiedName(schema, relation)
            try:
                yield from _show(conn, name, layouts)
            except RefusedError as refused:
                yield f"view {name} does not see {layout.archive.declared.archive}: {refused}"


def blind_views(conn: Connection, layouts: Mapping[QualifiedName, Layout]) -> Iterator[Blind]:
    """Every view that answers from what is not archived yet alone, where nobody accepted that. Changes nothing."""
    for layout in layouts.values():
        archive, recent = layout.archive, layout.archive.declared.recent_view
        if archive.declared.accept_changed_views:
            continue
        for schema, relation in rows(conn, READERS, (str(archive.source), str(recent) if recent else None)):
            name = QualifiedName(schema, relation)
            # The path goes back with it, also where a transaction is open already.
            with conn.transaction(force_rollback=True):
                conn.execute("set local search_path = ''")
                view = read_view(conn, name)
                read = [both for both in read_both(conn, name, layouts) if both.table == archive.source]
            for both in read:
                packed = needs_old_texts(view.readable, both) if view else None
                yield Blind(
                    name,
                    archive,
                    f"reads only those rows of {archive.source} that are not archived yet"
                    + (f", and {packed} of old ones stands packed in {archive.declared.archive}" if packed else ""),
                )


def _show(conn: Connection, name: QualifiedName, layouts: Mapping[QualifiedName, Layout]) -> Iterator[str]:
    with conn.transaction():
        conn.execute("set local search_path = ''")
        view = read_view(conn, name)
        read = read_both(conn, name, layouts)
    if view is None or not read:
        return
    if needed := [column for both in read if (column := needs_old_texts(view.readable, both))]:
        raise RefusedError(
            f"it reads {needed[0]} of old rows, which stands there packed; let groups stay longer than it looks back "
            "(archive.yaml, `groups: after`), or accept that it changes"
        )
    require_changeable(view)
    body = over_both(view.plain, [column.name for column in view.columns], read)
    order = order_over_outputs(view.readable, view.columns) if view.kind == "v" else ()
    body += f" ORDER BY {', '.join(order)}" if order else ""
    if view.kind == "m":
        yield (
            rebuild(conn, view, body)
            + f", over {', '.join(str(both.layout.archive.declared.archive) for both in read)}"
        )
        return
    with conn.transaction():
        conn.execute("set local search_path = ''")
        conn.execute(LOCK_TIMEOUT)
        replace_view(conn, view, body)
    yield f"view {name} reads {', '.join(str(both.layout.archive.declared.archive) for both in read)}, too"


def require_changeable(view: View) -> None:
    """RefusedError for a view whose text is not ours to exchange, or would mean something else for each reader."""
    if not view.is_ours_to_change:
        raise RefusedError(
            Phrase("it belongs to {owner}, with whose rights it reads; connect as {owner}", owner=view.owner)
        )
    if view.reads_as_caller:
        raise RefusedError(Phrase("security_invoker is on: each reader would need rights on a table of this project"))
    if view.is_written_through:
        raise RefusedError(Phrase("rows can be written through it, which a view over two tables would refuse"))


def replace_view(conn: Connection, view: View, body: str) -> None:
    """Exchange a view's text while nobody else can, in the caller's transaction. RefusedError when somebody just did.

    PostgreSQL forgets the options of a view that is replaced without naming them.
    """
    conn.execute(sql.SQL("comment on view {} is {}").format(view.name.identifier, sql.Literal(view.comment)))
    again = read_view(conn, view.name)
    if again is None or again.plain != view.plain:
        raise RefusedError("the application replaced it at this moment; run `lifecycle migrate` again")
    options = f" with ({view.options})" if view.options else ""
    conn.execute(f"create or replace view {view.name}{options} as {body}".encode())


def hide_archive(conn: Connection, source: QualifiedName, archive: QualifiedName) -> Iterator[str]:
    """Let every view read its table alone again, by its own definition; a line per view."""
    for schema, relation in rows(conn, READERS, (str(archive), None)):
        name = QualifiedName(schema, relation)
        with conn.transaction():
            conn.execute("set local search_path = ''")
            view = read_view(conn, name)
            inner = inner_definition(view.plain) if view else None
        if view is None or inner is None:
            continue
        if view.kind == "m":
            with conn.transaction():
                # The table's bare name meant the CTE; now it has to be found.
                conn.execute(sql.SQL("set local search_path = {}").format(sql.Identifier(source.schema)))
                yield rebuild(conn, view, inner)
            continue
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            conn.execute(sql.SQL("set local search_path = {}").format(sql.Identifier(source.schema)))
            conn.execute(
                f"create or replace view {name}{f' with ({view.options})' if view.options else ''} as {inner}".encode()
            )
        yield f"view {name} reads {source} alone again"
