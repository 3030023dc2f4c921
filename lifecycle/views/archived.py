"""Which views have to see rows that stand beside their table, and making them do so; and taking it back.

Rows stand beside their table in an archive, and in what is kept of cold months. Kept views see them by themselves
(keep.py). All others are given both here: a view is replaced in place, a materialized view is built anew beside and
exchanged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.archive.elsewhere import ArchivedRows
from lifecycle.archive.layout import Layout, archives_of, exists, read_layout
from lifecycle.cold.elsewhere import cold_rows
from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName
from lifecycle.views.catalog import View, read_view
from lifecycle.views.definition import cut_definition, order_over_outputs
from lifecycle.views.rebuild import rebuild, require_rebuildable
from lifecycle.views.seam import Both, Elsewhere, inner_definition, over_both, own_definition, read_both

LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
# A temporary view is its session's own, and gone when that says so.
READERS: Final = """
select distinct n.nspname::text, c.relname::text
  from pg_depend d join pg_rewrite w on d.classid = 'pg_rewrite'::regclass and w.oid = d.objid
  join pg_class c on c.oid = w.ev_class join pg_namespace n on n.oid = c.relnamespace
 where d.refclassid = 'pg_class'::regclass and d.refobjid = to_regclass(%s) and c.oid <> d.refobjid
   and c.oid is distinct from to_regclass(%s) and c.relpersistence <> 't' order by 1, 2
"""


@dataclass(frozen=True)
class Blind:
    """A view that reads a table and not the rows that stand beside it; `told` says what that comes to."""

    view: QualifiedName
    table: QualifiedName
    told: str


def archive_layouts(conn: Connection, application: Application) -> dict[QualifiedName, Layout]:
    """The declared archives that exist, by the table that they were made for."""
    return {
        archive.source: read_layout(conn, archive)
        for archive in archives_of(application.archived_tables)
        if exists(conn, archive.source) and exists(conn, archive.declared.archive)
    }


def rows_elsewhere(conn: Connection, application: Application) -> tuple[Elsewhere, ...]:
    """Where rows of declared tables stand beside them: archives, and what is kept of cold months."""
    return (
        *map(ArchivedRows, archive_layouts(conn, application).values()),
        *cold_rows(conn, application),
    )


def readers_of(conn: Connection, relation: QualifiedName, but: QualifiedName | None = None) -> list[QualifiedName]:
    """The views and materialized views that read a relation themselves."""
    found = rows(conn, READERS, (str(relation), str(but) if but else None))
    return [QualifiedName(schema, name) for schema, name in found]


def show_elsewhere(conn: Connection, places: Sequence[Elsewhere]) -> Iterator[str]:
    """Let every view that reads a table read its other rows, too; a line per view that was changed or cannot be."""
    for place in places:
        for name in readers_of(conn, place.table, place.passed_by):
            try:
                yield from _show(conn, name, place)
            except RefusedError as refused:
                yield f"view {name} does not see {place.relations[0]}: {refused}"
            except psycopg.ProgrammingError as error:  # its text means something else around another relation
                yield f"view {name} does not see {place.relations[0]}: {error.diag.message_primary}"


def blind_views(conn: Connection, places: Sequence[Elsewhere]) -> Iterator[Blind]:
    """Every view that answers from its table alone, where nobody accepted that. Changes nothing."""
    for place in places:
        if place.accepted:
            continue
        for name in readers_of(conn, place.table, place.passed_by):
            # The path goes back with it, also where a transaction is open already.
            with conn.transaction(force_rollback=True):
                conn.execute("set local search_path = ''")
                if (found := _missed_by(conn, name, place)) is not None:
                    view, both = found
                    obstacle = both.obstacle(_readable(view))
                    yield Blind(name, place.table, place.missed + (f"; {obstacle}" if obstacle else ""))


def _missed_by(conn: Connection, name: QualifiedName, place: Elsewhere) -> tuple[View, Both] | None:
    """The view and what it has to read of the table, where it misses the table's other rows."""
    view = read_view(conn, name)
    read = read_both(conn, name, _readable(view), (place,)) if view else ()
    return (view, read[0]) if view and read else None


def _readable(view: View) -> str:
    return cut_definition(view.readable) or view.readable


def why_blind(conn: Connection, name: QualifiedName, place: Elsewhere) -> str | None:
    """Why a view that misses a table's other rows cannot be made to read them; None where `lifecycle migrate` does it.

    In the caller's transaction, whose search_path becomes empty.
    """
    conn.execute("set local search_path = ''")
    if (found := _missed_by(conn, name, place)) is None:
        return None
    try:
        _laid_around(conn, *found)
    except RefusedError as refused:
        return str(refused)
    return None


def _laid_around(conn: Connection, view: View, both: Both) -> str:
    """The query of the view over all rows; RefusedError says why there is none."""
    if obstacle := both.obstacle(_readable(view)):
        raise RefusedError(obstacle)
    require_changeable(view)
    if view.kind == "m":
        require_rebuildable(conn, view.name)
    definition = cut_definition(view.plain) or view.plain
    body = over_both(definition, [column.name for column in view.columns], (both,))
    order = order_over_outputs(own_definition(_readable(view)), view.columns) if view.kind == "v" else ()
    return body + (f" ORDER BY {', '.join(order)}" if order else "")


def _show(conn: Connection, name: QualifiedName, place: Elsewhere) -> Iterator[str]:
    with conn.transaction():
        conn.execute("set local search_path = ''")
        if (found := _missed_by(conn, name, place)) is None:
            return
        view, both = found
        if cut_definition(view.plain) is not None:  # keep.py does it, or has said why not
            return
        body = _laid_around(conn, view, both)
    others = ", ".join(map(str, place.relations))
    if view.kind == "m":
        yield f"{rebuild(conn, view, body)}, over {others}"
        return
    with conn.transaction():
        conn.execute("set local search_path = ''")
        conn.execute(LOCK_TIMEOUT)
        replace_view(conn, view, body)
    yield f"view {name} reads {others}, too"


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


def hide_elsewhere(conn: Connection, table: QualifiedName, relations: Sequence[QualifiedName]) -> Iterator[str]:
    """Let every view read its table without these relations again; a line per view."""
    # Where the table's bare name meant the layer, it has to be found now.
    path = sql.SQL("set local search_path = {}").format(sql.Identifier(table.schema))
    for name in readers_of(conn, relations[0]):
        with conn.transaction():
            conn.execute("set local search_path = ''")
            view = read_view(conn, name)
            inner = inner_definition(view.plain, relations[0]) if view else None
        if view is None or inner is None:
            continue
        if view.kind == "m":
            with conn.transaction():
                conn.execute(path)
                yield rebuild(conn, view, inner)
            continue
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            conn.execute(path)
            options = f" with ({view.options})" if view.options else ""
            conn.execute(f"create or replace view {name}{options} as {inner}".encode())
        yield f"view {name} reads {table} alone again"
