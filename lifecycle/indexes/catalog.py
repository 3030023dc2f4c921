"""What the database knows of a declared index: whether one serves, under whatever name, and what has its name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows, value
from lifecycle.indexes.model import Index
from lifecycle.indexes.query_plans import QueryPlan, explain
from lifecycle.names import QualifiedName

# A btree serves when it begins with the wanted keys, in the wanted order or wholly reversed (it is read backwards);
# one without a predicate serves also where a partial one would do. Where texts are ordered byte by byte, in the
# collation C, the ordinary operator class does what text_pattern_ops does.
SERVING: Final = """
with described as (
    select i.indexrelid, i.indrelid, m.amname, i.indisvalid and i.indisready as usable,
           pg_get_expr(i.indpred, i.indrelid) as predicate, i.indnkeyatts::int as width, k.keys, k.reversed
      from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
     cross join lateral (
           select array_agg(format('%%s %%s', part.text, i.indoption[part.k - 1]) order by part.k) as keys,
                  array_agg(format('%%s %%s', part.text, i.indoption[part.k - 1] # 3) order by part.k) as reversed
             from (select k, format('%%s %%s %%s', pg_get_indexdef(i.indexrelid, k, false), i.indcollation[k - 1],
                                    case when %(bytewise)s and o.opcname = 'text_pattern_ops' then 'text_ops'
                                         else o.opcname end || o.opcnamespace) as text
                     from generate_series(1, i.indnkeyatts::int) k
                     join pg_opclass o on o.oid = i.indclass[k - 1]) part) k
     where i.indrelid = to_regclass(%(table)s) or i.indexrelid = to_regclass(%(wanted)s))
select c.relname::text
  from described wanted
  join described found on found.indexrelid <> wanted.indexrelid and found.usable and found.amname = wanted.amname
   and (found.predicate is null or found.predicate = wanted.predicate)
   and case wanted.amname when 'btree' then wanted.keys in (found.keys[:wanted.width], found.reversed[:wanted.width])
       else wanted.keys = found.keys end
  join pg_class c on c.oid = found.indexrelid
 where wanted.indexrelid = to_regclass(%(wanted)s)
 order by c.relname <> %(name)s, found.width, c.relname
"""
COLLATION_IS_C: Final = "select datcollate in ('C', 'POSIX') from pg_database where datname = current_database()"
NAMED: Final = """
select case when i.indexrelid is null then 'relation' when i.indisvalid then 'index' else 'invalid' end,
       i.indrelid = to_regclass(%(table)s)
  from pg_class c left join pg_index i on i.indexrelid = c.oid
 where c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
"""
KIND: Final = "select relkind::text from pg_class where oid = to_regclass(%s)"


# A key or a predicate that the table of today does not bear.
NO_LONGER_FITS: Final = (
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.InvalidTextRepresentation,
)


class UnfitError(Exception):
    """The index cannot be on the table as it is; the message says why."""


def index_body(index: Index, extension_schema: str) -> sql.Composed:
    """Everything of a definition that follows the table."""
    keys = sql.SQL(index.keys).format(extension=sql.Identifier(extension_schema))
    where = sql.SQL(f" where {index.predicate}" if index.predicate else "")
    return sql.SQL("using {} ({}){}").format(sql.Identifier(index.method), keys, where)


def require_table(conn: Connection, index: Index) -> None:
    """Raise UnfitError where the index cannot be built: no table, no plain one, or one without a column of it."""
    kind = value(conn, KIND, (str(index.table),))
    if kind is None:
        raise UnfitError(f"{index.table} does not exist")
    if kind == "p":
        raise UnfitError(
            f"{index.table} is partitioned, where PostgreSQL builds no index concurrently. Build it with `lifecycle "
            f"index {index.table} COLUMNS`, and take it out of indexes.yaml"
        )
    if kind != "r":
        raise UnfitError(f"{index.table} is no table")


@contextmanager
def on_empty_copy(conn: Connection, index: Index, extension_schema: str) -> Iterator[None]:
    """While the block runs there is a temporary table like the index's own, with this index alone; then it is gone.

    PostgreSQL itself brings the declaration into the form in which it keeps definitions; raises UnfitError where it
    cannot. Not inside a transaction.
    """
    copy = sql.Identifier("pg_temp", index.table.name)
    with conn.transaction(force_rollback=True):
        like = sql.SQL("create temp table {} (like {})")
        conn.execute(like.format(sql.Identifier(index.table.name), index.table.identifier))
        body = index_body(index, extension_schema)
        try:
            conn.execute(sql.SQL("create index {} on {} {}").format(sql.Identifier(index.name), copy, body))
        except NO_LONGER_FITS as error:
            raise UnfitError(
                f"{index.table}: {error.diag.message_primary}; change the index in indexes.yaml"
            ) from error
        yield


def serving(conn: Connection, index: Index, *, bytewise: bool = False) -> tuple[str, ...]:
    """Names of valid indexes that do what this one is for, its own first; within `on_empty_copy` only.

    With `bytewise` also those that do so only because the database's collation is C.
    """
    values = {
        "table": str(index.table),
        "wanted": str(QualifiedName("pg_temp", index.name)),
        "name": index.name,
        "bytewise": bytewise and value(conn, COLLATION_IS_C),
    }
    return tuple(name for (name,) in rows(conn, SERVING, values))


def explained(conn: Connection, index: Index) -> QueryPlan:
    """The plan of a hot-query index's query. Raises UnfitError where the query does not fit the table any more."""
    try:
        return explain(conn, query_statement(index))
    except NO_LONGER_FITS as error:
        raise UnfitError(f"{index.table}: {error.diag.message_primary}; change its query in indexes.yaml") from error


def fits_its_query(conn: Connection, index: Index) -> bool:
    """Whether the planner can use such an index for its query at all; within `on_empty_copy` only."""
    conn.execute("set local enable_seqscan = off")
    return index.name in explain(conn, query_statement(index, schema="pg_temp")).indexes


def query_statement(index: Index, schema: str | None = None) -> sql.Composed:
    """The representative query of a hot-query index, on its table or on one of that name in another schema."""
    assert index.query is not None  # noqa: S101 - only hot-query indexes are asked
    table = sql.Identifier(schema or index.table.schema, index.table.name)
    return sql.SQL(index.query.text).format(table=table)


def what_has_the_name(conn: Connection, index: Index) -> tuple[str | None, bool]:
    """What already has the index's name: None, 'invalid', 'index' or 'relation'; and whether it is on its table."""
    found = rows(conn, NAMED, {"table": str(index.table), "schema": index.table.schema, "name": index.name})
    return (found[0][0], bool(found[0][1])) if found else (None, False)
