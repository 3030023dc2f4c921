"""Let a view answer from a table: make the table, fill it, note changes from then on, exchange the view's text.

Nothing of the application's is dropped, and the view stays what it was to everybody who names it. A view that cannot be
kept stays as it is; the reason is told.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.views import KeptView, Views
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, translatable
from lifecycle.names import QualifiedName
from lifecycle.release import release
from lifecycle.views.age import comment_on, tell_ages, with_age
from lifecycle.views.archived import replace_view, require_changeable
from lifecycle.views.catalog import (
    READS_AS_CALLER,
    RELATIONS_READ,
    Source,
    View,
    foreign_functions,
    functions_of_readers,
    read_sources,
    read_table,
    read_view,
)
from lifecycle.views.definition import cut_definition, kept_view, order_over_outputs
from lifecycle.views.give_back import give_back, kept_views
from lifecycle.views.keys import TABLE_KINDS, RefreshKey, change_query, derive_key, moves, require_one_answer
from lifecycle.views.seam import Elsewhere, over_both, own_definition, read_both
from lifecycle.views.tables import kept_table, make_history, make_table
from lifecycle.views.unstable import unstable_columns
from lifecycle.views.watch import times_of, watch_tables

# Nothing has to be derived anew while this finds a row.
AS_IT_WAS: Final = f"""
select 1 from lifecycle.kept_views v
 where (v.schema_name, v.view_name) = (%(schema)s, %(name)s) and v.declared_as = %(declared)s and v.place = %(place)s
   and v.fingerprint = lifecycle.view_fingerprint(to_regclass(%(view)s),
                           lifecycle.kept_definition(to_regclass(%(view)s), v.kept_table))
   and not exists (select from pg_class c where c.oid = to_regclass(%(view)s) and {READS_AS_CALLER})
"""
# Ids, and documents with whatever is in them.
NAMING_TYPES: Final = ("uuid", "json", "jsonb", "bytea", "inet")
MISSING: Final = translatable("it does not exist")
LOCK_TIMEOUT: Final = "set local lock_timeout = '500ms'"
WRITE: Final = """
insert into lifecycle.kept_views as v
    (schema_name, view_name, kept_table, owner_name, place, column_names, stored_types, unstable, key_column,
     change_query, moves, refresh_every, most_share, keep_history, time_zone, fingerprint, declared_as, whole_due)
values (%(schema)s, %(name)s, %(table)s, %(owner)s, %(place)s, %(columns)s, %(types)s, %(unstable)s, %(key)s,
        %(query)s, %(moves)s, %(every)s::interval, %(share)s, %(history)s::interval, %(zone)s,
        lifecycle.view_fingerprint(%(view)s::regclass, %(definition)s), %(declared)s, 'first refresh')
on conflict (schema_name, view_name) do update set
    owner_name = excluded.owner_name, place = excluded.place, column_names = excluded.column_names,
    stored_types = excluded.stored_types, unstable = excluded.unstable, key_column = excluded.key_column,
    change_query = excluded.change_query, moves = excluded.moves, refresh_every = excluded.refresh_every,
    most_share = excluded.most_share, keep_history = excluded.keep_history, time_zone = excluded.time_zone,
    fingerprint = excluded.fingerprint, declared_as = excluded.declared_as,
    whole_due = case when v.fingerprint <> excluded.fingerprint or v.change_query <> excluded.change_query
                     then 'its declaration or definition has changed' else v.whole_due end
"""
FORGET_SOURCES: Final = "delete from lifecycle.kept_view_sources where (schema_name, view_name) = (%s, %s)"
WRITE_SOURCE: Final = "insert into lifecycle.kept_view_sources values (%s, %s, %s, %s)"
FILL: Final = """
select lifecycle.fill_kept_view(v, %(definition)s) from lifecycle.kept_views v
 where (v.schema_name, v.view_name) = (%(schema)s, %(name)s)
"""
# PostgreSQL may print the text differently once it stands inside of another.
ADOPT: Final = """
update lifecycle.kept_views v
   set fingerprint = lifecycle.view_fingerprint(%(view)s::regclass,
                                                lifecycle.kept_definition(%(view)s::regclass, v.kept_table))
 where (v.schema_name, v.view_name) = (%(schema)s, %(name)s)
"""
# How far a view is from the tables: those go first that others read.
DEPTH: Final = f"select count(*) from ({RELATIONS_READ}) r where r.relkind = 'v'"


@dataclass(frozen=True)
class Keeping:
    """How one view is to be kept: its definition, the order it shows rows in, its key and what it reads."""

    view: View
    definition: str
    order: tuple[str, ...]
    key: RefreshKey | None
    sources: tuple[Source, ...]
    table: QualifiedName
    moves: str
    unstable: tuple[str, ...]


def plan_keeping(conn: Connection, name: QualifiedName, declared: KeptView, elsewhere: Sequence[Elsewhere]) -> Keeping:
    """How a view would be kept, in the caller's transaction, whose search_path becomes empty. Reads only.

    `elsewhere` says where rows stand that count as those of their tables.

    RefusedError says why it cannot be.
    """
    conn.execute("set local search_path = ''")
    view = read_view(conn, name)
    if view is None:
        raise RefusedError(MISSING)
    if view.kind != "v":
        raise RefusedError(Phrase("it is no view; a materialized view stays one, declare it under `materialized`"))
    require_changeable(view)
    definition = cut_definition(view.plain) or view.plain.rstrip("; ")
    readable = cut_definition(view.readable) or view.readable
    order = order_over_outputs(own_definition(readable), view.columns)
    require_one_answer(readable, functions_of_readers(conn, name))
    sources = read_sources(conn, name)
    # One that cannot read all goes on reading the table alone, and is named before any of its rows moves.
    if read := [both for both in read_both(conn, name, readable, elsewhere) if not both.obstacle(readable)]:
        shown = [column.name for column in view.columns]
        definition, readable = over_both(definition, shown, read), over_both(readable, shown, read)
        sources += tuple(read_table(conn, relation) for both in read for relation in both.elsewhere.relations)
    columns = {source.name: source.columns for source in sources}
    # No trigger notes the REFRESH of a materialized view, nor what changes elsewhere.
    always = any(source.kind in ("m", "f") for source in sources)
    return Keeping(
        view=view,
        definition=definition,
        order=order,
        key=derive_key(view, readable, sources, _led_to_elsewhere(declared, elsewhere, columns)),
        sources=tuple(source for source in sources if source.kind in TABLE_KINDS),
        table=kept_table(name),
        moves="always" if always else moves(readable, foreign_functions(conn, name)),
        unstable=unstable_columns(readable, columns, view.columns),
    )


def _led_to_elsewhere(declared: KeptView, elsewhere: Sequence[Elsewhere], read: Container[QualifiedName]) -> KeptView:
    """The declaration with the way to the key of rows that stand elsewhere and are read: that of their table."""
    led = {
        relation: declared.by[place.table]
        for place in elsewhere
        if place.table in declared.by
        for relation in place.relations
        if relation in read
    }
    return declared.model_copy(update={"by": led | declared.by})


def keep_views(conn: Connection, views: Views, elsewhere: Sequence[Elsewhere]) -> Iterator[str]:
    """Keep the declared views, those first that others read, and give back those that are declared no longer.

    A line per view that was changed or cannot be kept. A rerun finishes what was cut off, and adopts a definition that
    the application replaced.
    """
    yield from give_back(conn, [name for name in kept_views(conn) if name not in views.kept])
    keepings: list[tuple[Keeping, bool]] = []
    for place, name in enumerate(in_order(conn, views)):
        declared = views.kept[name]
        if is_as_it_was(conn, name, views, elsewhere, place):
            continue
        try:
            with conn.transaction():
                keeping = plan_keeping(conn, name, declared, elsewhere)
                key = keeping.key.column if keeping.key else None
                made = make_table(conn, keeping.table, name, keeping.view.columns, keeping.definition, key)
                if declared.history:
                    _refuse_history_of_people(keeping)
                    make_history(conn, keeping.table, name, keeping.view.columns)
                _write(conn, keeping, views, elsewhere, place)
            keepings.append((keeping, made))
        except RefusedError as refused:
            optional = declared.optional and str(refused) == MISSING
            if not optional:
                yield f"view {name} stays as it is: {refused}"
            if (optional or str(refused) != MISSING) and name in kept_views(conn) and not _answers(conn, name):
                yield from give_back(conn, [name])
    # Before the first table is filled: what changes from then on is noted.
    yield from watch_tables(conn, watched_columns([keeping for keeping, _ in keepings]), views.times)
    for keeping, made in keepings:
        if made or cut_definition(keeping.view.plain) != keeping.definition:
            try:
                yield exchange(conn, keeping, views.kept[keeping.view.name].every)
            except RefusedError as refused:
                yield f"view {keeping.view.name} stays as it is: {refused}"
    yield from tell_ages(conn, views.kept)


def exchange(conn: Connection, keeping: Keeping, every: str) -> str:
    """Fill the table, then let the view answer from it. RefusedError when the application replaces it meanwhile."""
    name = keeping.view.name
    conn.execute(FILL.encode(), {"definition": keeping.definition, "schema": name.schema, "name": name.name})
    conn.execute(sql.SQL("analyze {}").format(keeping.table.identifier))
    with conn.transaction():
        conn.execute("set local search_path = ''")
        conn.execute(LOCK_TIMEOUT)
        body = kept_view(keeping.table, keeping.view.columns, keeping.definition, keeping.order)
        replace_view(conn, keeping.view, body)
        comment_on(conn, name, with_age(keeping.view.comment, name, every))
        conn.execute(ADOPT.encode(), {"view": str(name), "schema": name.schema, "name": name.name})
    return f"view {name} answers from {keeping.table}"


def _refuse_history_of_people(keeping: Keeping) -> None:
    """What a view said stays; an erasure could not reach it there."""
    if naming := [c.name for c in keeping.view.columns if c.type.split("[")[0] in NAMING_TYPES]:
        raise RefusedError(f"its history would keep {naming[0]}, which may name a person; take `history` out")


def _answers(conn: Connection, name: QualifiedName) -> bool:
    """Whether the view answers from its table whoever may read it, and not by what the application made of it since."""
    with conn.transaction():
        conn.execute("set local search_path = ''")
        view = read_view(conn, name)
    return view is not None and cut_definition(view.plain) is not None and not view.reads_as_caller


def watched_columns(keepings: Sequence[Keeping]) -> dict[QualifiedName, set[str]]:
    """Of each table that is read, the columns that a changed row has to be noted with; none where no key needs one."""
    found: dict[QualifiedName, set[str]] = {source.name: set() for keeping in keepings for source in keeping.sources}
    for keeping in keepings:
        for tie in keeping.key.ties if keeping.key else ():
            found[tie.table].add(tie.column)
    return found


def _declared_as(name: QualifiedName, views: Views, elsewhere: Sequence[Elsewhere]) -> str:
    """Everything beside the catalog that a keeping is derived from."""
    shared = views.model_dump_json(include={"times", "time_zone", "most_share"})
    return " ".join(
        [
            release(),
            views.kept[name].model_dump_json(exclude={"why"}),
            shared,
            *sorted(each.fingerprint for each in elsewhere),
        ]
    )


def in_order(conn: Connection, views: Views) -> list[QualifiedName]:
    """The declared views, those first that others read."""
    return sorted(views.kept, key=lambda name: (value(conn, DEPTH, (str(name),)), name))


def is_as_it_was(
    conn: Connection, name: QualifiedName, views: Views, elsewhere: Sequence[Elsewhere], place: int
) -> bool:
    """Whether a view is kept as its declaration, its definition and what it reads ask for; `place` as `in_order`."""
    values = {
        "schema": name.schema,
        "name": name.name,
        "view": str(name),
        "declared": _declared_as(name, views, elsewhere),
        "place": place,
    }
    with conn.transaction(force_rollback=True):
        conn.execute("set local search_path = ''")
        return bool(rows(conn, AS_IT_WAS, values))


def _write(conn: Connection, keeping: Keeping, views: Views, elsewhere: Sequence[Elsewhere], place: int) -> None:
    name, key = keeping.view.name, keeping.key
    found = {source.name: times_of(views.times, source.name, source.columns) for source in keeping.sources}
    times = {table: column for table, column in found.items() if column is not None}
    declared = views.kept[name]
    conn.execute(
        WRITE.encode(),
        {
            "schema": name.schema,
            "name": name.name,
            "view": str(name),
            "definition": keeping.definition,
            "table": keeping.table.name,
            "owner": keeping.view.owner,
            "place": place,
            "columns": [c.name for c in keeping.view.columns],
            "types": [c.stored_as for c in keeping.view.columns],
            "unstable": list(keeping.unstable),
            "key": key and key.column,
            "query": change_query(key, keeping.sources, times),
            "moves": keeping.moves,
            "every": declared.every,
            "share": views.most_share,
            "history": declared.history,
            "zone": views.time_zone,
            "declared": _declared_as(name, views, elsewhere),
        },
    )
    conn.execute(FORGET_SOURCES.encode(), (name.schema, name.name))
    for source in keeping.sources:
        conn.execute(WRITE_SOURCE.encode(), (name.schema, name.name, source.name.schema, source.name.name))
