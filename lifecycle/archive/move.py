"""Moving rows into the archive, a batch at a time, in one short transaction each.

Nothing is held while a batch is compressed but the claim of its days (read_ahead.py). Two workers therefore take
different days; and whatever both may do, the moving statement looks again at each row, so a row is moved once, as it
is, or left where it is.
"""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import psycopg
from psycopg import sql

from lifecycle.archive.batches import Due, Place, count_due
from lifecycle.archive.layout import GZIP, SHA256, Archive, ArchivedColumn, Layout
from lifecycle.archive.pace import PACE, Pace
from lifecycle.archive.read_ahead import Batch, claimed_batches
from lifecycle.archive.structure import LayoutChangedError, bring_in_step, hold_columns
from lifecycle.archive.sweep import delete_orphans
from lifecycle.database import Connection, politely, run_all
from lifecycle.pacing import UNPACED, Pacing

BATCH: Final = sql.Identifier("pg_temp", "lifecycle_archive_batch")
PREPARE: Final = (
    "set local statement_timeout = 0",
    # Kept views read both places: what moves changes none of their rows.
    "set local lifecycle.moves_rows = 'yes'",
    # Stored as text, a value must read the same wherever it is cast back.
    "set local datestyle = 'ISO, YMD'",
    "set local intervalstyle = 'postgres'",
    "set local bytea_output = 'hex'",
    # An archive that is empty when the statement is planned would be read whole for each row of the batch, while
    # another worker fills it.
    "set local enable_seqscan = off",
)
# Waits for nobody: a row or a group that somebody changes just now is left for the next run. A text may have changed
# since it was read, so its checksum is taken again, and again under the lock. A key that the archive has already is
# left, too, and so is a row that went to another group.
MOVE: Final = sql.SQL("""
with found as materialized (
    select g.{groups_id} as id from {groups} g
     where g.{groups_id} in (select b.grp from {batch} b){group_is_old}
       and not exists (select from lifecycle.restored_groups r
                        where r.archive_schema = {schema} and r.archive_table = {table}
                          and r.group_key = g.{groups_id}::text and r.until > %(now)s)
     order by g.{groups_id} for key share skip locked
), held as materialized (
    select m.{id} as id, m.ctid as place, m.tableoid as part{packed}
      from {batch} b join found g on g.id = b.grp
      join {source} m on m.{id} = b.id and m.{group} = b.grp
     where m.{time} < {cutoff}{unchanged}
       and not exists (select from {archive} a where a.{id} = {stored_id})
       for update of m skip locked
), gone as (
    delete from {source} m using held h where m.ctid = h.place and m.tableoid = h.part and m.{id} = h.id
    returning {values}
), kept as (
    insert into {archive} ({columns}) select {kept} from gone k order by k.{time}
)
select count(*), coalesce(sum(k.text_bytes), 0), coalesce(sum(k.stored_bytes), 0), coalesce(sum(k.plain), 0) from gone k
""")


@dataclass(frozen=True)
class ArchiveRun:
    """What a run did. `left` were being changed, or are in the archive already; `busy_days` another worker has.

    `text_bytes` is the text that moved, `stored_bytes` what it takes in the archive; `plain` texts were stored as they
    are, since gzip would have made them larger. `remaining` rows are still due, counted no further than the run's
    limit; the first run that finds a backlog ends at that limit. `orphans` were archived rows of groups that are gone.
    """

    moved: int = 0
    left: int = 0
    batches: int = 0
    busy_days: int = 0
    text_bytes: int = 0
    stored_bytes: int = 0
    plain: int = 0
    remaining: int = 0
    orphans: int = 0


def archive_rows(
    conn: Connection,
    claims: Connection,
    archive: Archive,
    *,
    now: datetime,
    pace: Pace = PACE,
    pacing: Pacing = UNPACED,
    progress: Callable[[str, float], None] = lambda _message, _fraction: None,
    sleep: Callable[[float], None] = time.sleep,
) -> ArchiveRun:
    """Archive what is due at `now`, oldest first, up to the pace's limit for a run.

    Whether readers may change is the caller's question (readers.py). `claims` is a second session, which a second
    thread uses until this function ends; neither keeps any state, so both may go through a transaction pooler. Raises
    RefusedError when the table is not what is declared, BusyError when the tables themselves stay locked, psycopg.Error
    otherwise; batches that were moved stay moved.
    """
    layout = bring_in_step(conn, archive, sleep)
    due, place = Due(layout, now, pace), Place()
    run = ArchiveRun(orphans=delete_orphans(conn, layout, sleep=sleep))
    expected = count_due(conn, due, pace.run_limit)
    while run.moved < pace.run_limit:
        begin = place
        try:
            with closing(claimed_batches(claims, due, place)) as batches:
                for batch in batches:
                    run = replace(run, busy_days=run.busy_days + batch.busy_days)
                    if batch.rows:
                        with pacing.work():
                            run = _archive_batch(conn, due, batch, run, sleep)
                    place = batch.end
                    progress("rows archived", min((run.moved + run.left) / max(expected, 1), 1.0))
                    if run.moved >= pace.run_limit:
                        break
        except (LayoutChangedError, psycopg.errors.UndefinedColumn):
            # Its texts are packed for other columns, perhaps: the batch is read again.
            due = Due(bring_in_step(conn, archive, sleep), now, pace)
            continue
        if place == begin:
            break
    return replace(run, remaining=count_due(conn, due, pace.run_limit))


def _archive_batch(
    conn: Connection, due: Due, batch: Batch, run: ArchiveRun, sleep: Callable[[float], None]
) -> ArchiveRun:
    archive = due.layout.archive
    (moved, text_bytes, stored_bytes, plain), _ = politely(
        conn,
        lambda: _move(conn, due, batch.packed),
        what=f"archive of {archive.source}",
        relation=str(archive.source),
        also=(str(archive.declared.archive), str(archive.declared.groups.table)),
        sleep=sleep,
    )
    return replace(
        run,
        moved=run.moved + moved,
        left=run.left + batch.rows - moved,
        batches=run.batches + 1,
        text_bytes=run.text_bytes + text_bytes,
        stored_bytes=run.stored_bytes + stored_bytes,
        plain=run.plain + plain,
    )


def _move(conn: Connection, due: Due, packed: bytes) -> tuple[int, int, int, int]:
    """Rows, bytes of text, bytes of it in the archive and texts kept as they are, in the caller's transaction."""
    layout = due.layout
    hold_columns(conn, layout)
    names = [sql.SQL("{} bytea").format(_of(n, end)) for n in range(len(layout.compressed)) for end in (GZIP, SHA256)]
    columns = [
        sql.SQL("id {} not null").format(layout.key_type),
        sql.SQL("grp {} not null").format(layout.group_type),
        *names,
    ]
    run_all(
        conn,
        [
            *PREPARE,
            sql.SQL("create temp table lifecycle_archive_batch ({}) on commit drop").format(
                sql.SQL(", ").join(columns)
            ),
        ],
    )
    with conn.cursor().copy(sql.SQL("copy {} from stdin (format binary)").format(BATCH)) as copy:
        copy.write(packed)
    # What is joined by; the rest would only be read for nothing.
    conn.execute(sql.SQL("analyze {} (id, grp)").format(BATCH))
    found = conn.execute(_moving(layout), due.values(Place())).fetchone()
    assert found is not None  # noqa: S101 - an aggregate has one row
    moved, text_bytes, stored_bytes, plain = map(int, found)
    return moved, text_bytes, stored_bytes, plain


def _of(number: int, end: str) -> sql.Identifier:
    """A column of the batch that belongs to the compressed column of that number."""
    return sql.Identifier(f"text_{number}{end}")


def _stored(column: ArchivedColumn, row: sql.Composable) -> sql.Composed:
    cast = sql.SQL("") if column.built_in else sql.SQL("::text")
    return sql.SQL("{}.{}{}").format(row, sql.Identifier(column.name), cast)


def _moving(layout: Layout) -> sql.Composed:
    archive, declared = layout.archive, layout.archive.declared
    row = sql.SQL("m")
    number_of = {column.name: number for number, column in enumerate(layout.compressed)}
    values: dict[str, sql.Composable] = {}
    texts: list[dict[str, Any]] = []
    for column in layout.columns:
        number = number_of.get(column.name)
        if number is None:
            values[column.name] = _stored(column, row)
            continue
        gzip, sha256 = (sql.SQL("h.{}").format(_of(number, end)) for end in (GZIP, SHA256))
        values[column.name] = sql.SQL("case when {} is null then {} end").format(gzip, _stored(column, row))
        values[column.name + GZIP], values[column.name + SHA256] = gzip, sha256
        text = sql.SQL("m.{}::text").format(sql.Identifier(column.name))
        texts.append({"text": text, "gzip": gzip, "sha256": sha256})
    return MOVE.format(
        groups=declared.groups.table.identifier,
        groups_id=sql.Identifier(declared.groups.id),
        group_is_old=(
            sql.SQL(" and (g.{} >= %(groups_cutoff)s) is not true").format(sql.Identifier(declared.groups.time))
            if declared.groups.time
            else sql.SQL("")
        ),
        batch=BATCH,
        schema=sql.Literal(declared.archive.schema),
        table=sql.Literal(declared.archive.name),
        source=archive.source.identifier,
        archive=declared.archive.identifier,
        id=sql.Identifier(declared.id),
        stored_id=_stored(layout.column(declared.id), row),
        group=sql.Identifier(declared.group),
        time=sql.Identifier(declared.time),
        cutoff=layout.moment(sql.Placeholder("cutoff")),
        packed=sql.SQL("").join(
            sql.SQL(", b.{}").format(_of(n, end)) for n in range(len(texts)) for end in (GZIP, SHA256)
        ),
        unchanged=sql.SQL("").join(
            sql.SQL("\n       and sha256(convert_to({}, 'UTF8')) is not distinct from b.{}").format(
                part["text"], _of(n, SHA256)
            )
            for n, part in enumerate(texts)
        ),
        values=sql.SQL(", ").join(
            [
                *(sql.SQL("{} as {}").format(part, sql.Identifier(name)) for name, part in values.items()),
                *_counts(texts),
            ]
        ),
        columns=sql.SQL(", ").join(map(sql.Identifier, values)),
        kept=sql.SQL(", ").join(sql.SQL("k.{}").format(sql.Identifier(name)) for name in values),
    )


def _counts(texts: list[dict[str, Any]]) -> list[sql.Composed]:
    """Bytes of a row's texts, bytes of them as they are stored, and how many are stored as they are."""

    def total(expression: str) -> sql.Composable:
        each = [sql.SQL(expression).format(**part) for part in texts]
        return sql.SQL(" + ").join(each) if each else sql.SQL("0")

    return [
        sql.SQL("{} as text_bytes").format(total("coalesce(octet_length({text}), 0)")),
        sql.SQL("{} as stored_bytes").format(total("coalesce(octet_length({gzip}), octet_length({text}), 0)")),
        sql.SQL("{} as plain").format(total("({gzip} is null and {sha256} is not null)::int")),
    ]
