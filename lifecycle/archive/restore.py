"""A group (a conversation) brought back from the archive, each row as it was in every column."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import psycopg
from psycopg import sql

from lifecycle.archive.conversation import require_group
from lifecycle.archive.layout import GZIP, SHA256, Archive, ArchivedColumn, Layout, type_name
from lifecycle.archive.pace import PACE
from lifecycle.archive.structure import LayoutChangedError, bring_in_step, hold_columns
from lifecycle.archive.text import unpack
from lifecycle.database import Connection, politely, run_all, without_statement_timeout
from lifecycle.errors import RefusedError, VerificationError

PREPARE: Final = (
    "set local statement_timeout = 0",
    # Kept views read both places: what moves changes none of their rows.
    "set local lifecycle.moves_rows = 'yes'",
    "set local datestyle = 'ISO, YMD'",
    "set local intervalstyle = 'postgres'",
)
# A run of the archive that has rows of this group in its hands holds the group's row; it is waited for, and the next
# one passes the group by until this transaction has said that it stays out.
HOLD: Final = sql.SQL("select from {groups} g where g.{groups_id} = %(group)s::{kind} for update")
KEEP_OUT: Final = """
insert into lifecycle.restored_groups as r (archive_schema, archive_table, group_key, restored_at, until)
values (%(schema)s, %(table)s, %(group)s, %(now)s, %(until)s)
on conflict (archive_schema, archive_table, group_key)
   do update set restored_at = excluded.restored_at, until = greatest(r.until, excluded.until)
"""
CANONICAL: Final = sql.SQL("select (%(group)s::{kind})::text")
# Whoever has the key of an archived row by now keeps it; that row stays in the archive.
ARCHIVED: Final = sql.SQL("""
create temp table lifecycle_restored on commit drop as
select a.* from {archive} a
 where a.{group} = %(group)s::{stored} and not exists (select from {source} m where m.{id} = a.{id}::{key})
""")
TEXTS: Final = sql.SQL("select {id}, {columns} from pg_temp.lifecycle_restored")
UNPACKED: Final = sql.SQL("update pg_temp.lifecycle_restored set {sets} where {id} = %(id)s")
INSERT: Final = sql.SQL("""
insert into {source} ({columns}) overriding system value
select {values} from pg_temp.lifecycle_restored a order by a.{time}
""")
# As text, since not every type can be compared: what a trigger or a rule made of a row is seen here.
DIFFERS: Final = sql.SQL("""
select {differences} from pg_temp.lifecycle_restored a left join {source} m on m.{id} = a.{id}::{key}
""")
GROUPS: Final = sql.SQL("select distinct a.{group}::text from {archive} a order by 1")
DELETE: Final = sql.SQL("delete from {archive} a using pg_temp.lifecycle_restored r where a.{id} = r.{id}")
LEFT: Final = sql.SQL("select count(*) from {archive} a where a.{group} = %(group)s::{stored}")


@dataclass(frozen=True)
class Restoration:
    """How many rows came back, how many stayed in the archive, and until when the group is left alone."""

    restored: int
    left: int
    until: datetime


def archived_groups(conn: Connection, layout: Layout) -> tuple[str, ...]:
    """The keys of all groups that have archived rows."""
    query = GROUPS.format(**_names(layout))
    with without_statement_timeout(conn):
        return tuple(key for (key,) in conn.execute(query).fetchall())


def restore_group(
    conn: Connection, archive: Archive, group: str, *, now: datetime, keep_for: timedelta = PACE.restored_for
) -> Restoration:
    """Bring a group's archived rows back into their table, and keep them there for `keep_for`.

    One transaction; after any error nothing is changed. RefusedError for a group that does not exist or a row that the
    table does not take any more, VerificationError when a text is damaged or a row came back different, BusyError when
    the group stays locked.
    """
    (restoration,) = restore_groups(conn, archive, (group,), now=now, keep_for=keep_for)
    return restoration


def restore_groups(
    conn: Connection,
    archive: Archive,
    groups: Sequence[str],
    *,
    now: datetime,
    keep_for: timedelta = PACE.restored_for,
) -> Iterator[Restoration]:
    """The same for several groups, a transaction each; what came back before an error stays."""
    until, declared = now + keep_for, archive.declared
    layout = bring_in_step(conn, archive)
    for group in groups:
        while True:
            try:
                restoration, _ = politely(
                    conn,
                    lambda seen=layout, key=group: _restore(conn, seen, key, now, until),  # type: ignore[misc]
                    what=f"restore from {declared.archive}",
                    relation=str(declared.groups.table),
                    also=(str(archive.source), str(declared.archive)),
                )
            except LayoutChangedError:
                # A column that the archive did not know would be missing from what comes back.
                layout = bring_in_step(conn, archive)
                continue
            yield restoration
            break


def _restore(conn: Connection, layout: Layout, group: str, now: datetime, until: datetime) -> Restoration:
    hold_columns(conn, layout)
    require_group(conn, layout, group)
    names = _names(layout)
    run_all(conn, PREPARE)
    conn.execute(HOLD.format(**names), {"group": group})
    # The same key in other words is the same group.
    key = conn.execute(CANONICAL.format(**names), {"group": group}).fetchone()
    name = layout.archive.declared.archive
    conn.execute(
        KEEP_OUT.encode(),
        {"schema": name.schema, "table": name.name, "group": key and key[0], "now": now, "until": until},
    )
    conn.execute(ARCHIVED.format(**names), {"group": group})
    _unpack_all(conn, layout, names)
    inserted = [column for column in layout.columns if not column.generated]
    statement = INSERT.format(
        **names,
        columns=sql.SQL(", ").join(sql.Identifier(column.name) for column in inserted),
        values=sql.SQL(", ").join(map(_value, inserted)),
    )
    try:
        restored = conn.execute(statement).rowcount
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        column = f" column {error.diag.column_name}" if error.diag.column_name else ""
        raise RefusedError(
            f"{layout.archive.source}:{column} does not take an archived row of this group any more "
            f"({error.diag.constraint_name or error.diag.sqlstate}). Nothing was brought back. The table changed since "
            f"the rows were archived: change the values in {name}, or the table."
        ) from None
    _require_equal(conn, layout, names)
    conn.execute(DELETE.format(**names))
    left = conn.execute(LEFT.format(**names), {"group": group}).fetchone()
    return Restoration(restored, int(left[0]) if left else 0, until)


def _names(layout: Layout) -> dict[str, sql.Composable]:
    declared = layout.archive.declared
    return {
        "source": layout.archive.source.identifier,
        "archive": declared.archive.identifier,
        "groups": declared.groups.table.identifier,
        "groups_id": sql.Identifier(declared.groups.id),
        "id": sql.Identifier(declared.id),
        "group": sql.Identifier(declared.group),
        "time": sql.Identifier(declared.time),
        "key": layout.key_type,
        "kind": layout.group_type,
        "stored": sql.SQL(layout.column(declared.group).stored),
    }


def _unpack_all(conn: Connection, layout: Layout, names: dict[str, sql.Composable]) -> None:
    """Put the texts in their columns; VerificationError for one that is damaged."""
    if not layout.compressed:
        return
    columns = [sql.Identifier(c.name + end) for c in layout.compressed for end in ("", GZIP, SHA256)]
    parts = [sql.SQL("{}::text").format(column) if number % 3 == 0 else column for number, column in enumerate(columns)]
    query = TEXTS.format(id=names["id"], columns=sql.SQL(", ").join(parts))
    sets = sql.SQL(", ").join(
        sql.SQL("{} = {}::{}").format(
            sql.Identifier(column.name),
            sql.Placeholder(f"text_{number}"),
            sql.SQL(column.stored),
        )
        for number, column in enumerate(layout.compressed)
    )
    update = UNPACKED.format(id=names["id"], sets=sets)
    changes = []
    for key, *values in conn.execute(query).fetchall():
        texts = {
            f"text_{number}": unpack(*values[3 * number : 3 * number + 3]) for number in range(len(layout.compressed))
        }
        if any(gzip is not None for gzip in values[1::3]):
            changes.append({"id": key, **texts})
    if changes:
        conn.execute(sql.SQL("create index on pg_temp.lifecycle_restored ({id})").format(id=names["id"]))
        with conn.cursor() as cursor:
            cursor.executemany(update, changes)


def _value(column: ArchivedColumn) -> sql.Composable:
    """The archived value in the column's type now; a row that is older than the column gets the column's default."""
    kept = sql.SQL("a.{}").format(sql.Identifier(column.name))
    if not column.built_in:
        kept = sql.SQL("{}::{}").format(kept, type_name(column))
    if column.not_null and column.default:
        return sql.SQL("coalesce({}, {})").format(kept, sql.SQL(column.default))
    return kept


def _require_equal(conn: Connection, layout: Layout, names: dict[str, sql.Composable]) -> None:
    differences = [
        sql.SQL("count(*) filter (where m.{column}::text is distinct from {kept}::{kind}::text{unless})").format(
            column=sql.Identifier(column.name),
            kept=sql.SQL("a.{}").format(sql.Identifier(column.name)),
            kind=sql.SQL(column.exact),
            unless=sql.SQL(" and a.{} is not null").format(sql.Identifier(column.name))
            if column.not_null
            else sql.SQL(""),
        )
        for column in layout.columns
        if not column.generated
    ]
    found = conn.execute(DIFFERS.format(**names, differences=sql.SQL(", ").join(differences))).fetchone()
    compared = [column.name for column in layout.columns if not column.generated]
    if changed := [name for name, count in zip(compared, found or (), strict=True) if count]:
        raise VerificationError(
            f"{layout.archive.source}: rows came back with other values in {', '.join(changed)}; a trigger, a rule or "
            "the length of the column changes them. Nothing was brought back."
        )
