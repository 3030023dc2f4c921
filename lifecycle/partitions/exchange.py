"""The end of the split: foreign keys, the last changes, and one short transaction that exchanges the partitions."""

from functools import partial

import psycopg
from psycopg import sql

from lifecycle.database import Connection, politely, rows, run_all, value
from lifecycle.partitions.capture import Target, captures_all, pending, prepare_replay, replay
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.snapshots import wait_for_older_snapshots
from lifecycle.partitions.split import altered, outdated_targets, require_known_columns

# Catching up ends with this few changes left.
FEW_CHANGES = 60
# More than this is not replayed under the lock: writers would wait for it.
MOST_CHANGES_UNDER_LOCK = 1000
REPLAY_ROUNDS = 50

FOREIGN_KEYS = """
select k.conname, pg_get_constraintdef(k.oid), k.confrelid::regclass::text
  from pg_constraint k where k.conrelid = %s::regclass and k.contype = 'f' order by 1
"""
SAMPLED_INDEXES = """
select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indexrelid
                where i.indrelid = %s::regclass and a.attstattarget >= 0)
"""
FOREIGN_KEY_VALID = "select convalidated from pg_constraint where conrelid = %s::regclass and conname = %s"


def add_foreign_keys(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> None:
    """Give each month table the parent's foreign keys, validated, so that attaching scans nothing.

    An account deleted while its rows were copied fails the validation until its change is replayed.
    """
    keys = rows(conn, FOREIGN_KEYS, (names.public.as_string(conn),))
    for target in targets:
        partition = names.partition(target.name)
        for name, definition, referenced in keys:
            place = partition.as_string(conn)
            valid = value(conn, FOREIGN_KEY_VALID, (place, name))
            if valid is None:
                add = sql.SQL("alter table {} add constraint {} {} not valid").format(
                    partition, sql.Identifier(name), sql.SQL(definition)
                )
                politely(conn, partial(conn.execute, add), what=f"foreign key of {place}", relation=referenced)
            if not valid:
                _validate(conn, names, old, targets, partition, name)


def _validate(
    conn: Connection, names: Names, old: TableStructure, targets: list[Target], partition: sql.Identifier, name: str
) -> None:
    validate = sql.SQL("alter table {} validate constraint {}").format(partition, sql.Identifier(name))
    for _ in range(REPLAY_ROUNDS):
        try:
            conn.execute(validate)
            return
        except psycopg.errors.ForeignKeyViolation:
            _replay_round(conn, names, old, targets)
    conn.execute(validate)


def _replay_round(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> None:
    """One replay; an account that goes away under it is met again, already gone, in the next round."""
    try:
        with conn.transaction():
            replay(conn, names, old, targets)
    except (psycopg.errors.ForeignKeyViolation, psycopg.errors.DeadlockDetected):
        return


def catch_up(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> None:
    """Replay captured changes until few are left, or for so many rounds on a table that is busier than that."""
    prepare_replay(conn, names)
    for _ in range(REPLAY_ROUNDS):
        _replay_round(conn, names, old, targets)
        if pending(conn, names) < FEW_CHANGES:
            return


def require_capture(conn: Connection, names: Names) -> None:
    """Raise BusyError when the capture was switched off for a while: another run copies again."""
    if not captures_all(conn, names):
        raise altered(names)


def exchange(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> float:
    """Put the new partitions in the old one's place, in one transaction; returns milliseconds under lock."""
    prepare_replay(conn, names)
    partitions = [names.partition(target.name) for target in targets]
    legacy = names.legacy.as_string(conn)
    referenced = sorted({row[2] for row in rows(conn, FOREIGN_KEYS, (names.public.as_string(conn),))})
    statements: list[sql.Composable] = [
        sql.SQL("alter table {} detach partition {}").format(names.public, names.legacy),
        sql.SQL("comment on table {} is {}").format(
            names.legacy, sql.Literal(f"lifecycle:detached of {names.table.qualified_name}")
        ),
    ]
    for target, partition in zip(targets, partitions, strict=True):
        statements.append(
            sql.SQL("alter table {} attach partition {} {}").format(names.public, partition, target.for_values())
        )
        if old.replica_identity != "d" or value(conn, SAMPLED_INDEXES, (names.public.as_string(conn),)):
            statements.append(
                sql.SQL("select lifecycle.copy_index_settings({}::regclass, {}::regclass)").format(
                    sql.Literal(names.public.as_string(conn)), sql.Literal(partition.as_string(conn))
                )
            )

    def prepare() -> None:
        # Before each try anew: while one try after the other fails, changes pile up and snapshots grow old.
        catch_up(conn, names, old, targets)
        wait_for_older_snapshots(conn, names.table)
        catch_up(conn, names, old, targets)

    def swap() -> None:
        # Keeps out whoever would alter the table, and nobody else, while it is compared with its copies.
        conn.execute(sql.SQL("lock table only {} in share update exclusive mode").format(names.public))
        require_known_columns(conn, names, old)
        if outdated_targets(conn, names, {target.name for target in targets}):
            raise altered(names)
        require_capture(conn, names)
        # Nobody knows the new tables; the tables that keys point at come next; the parent, where the crowd is, last.
        conn.execute(sql.SQL("lock table {} in access exclusive mode").format(sql.SQL(", ").join(partitions)))
        for name in referenced:
            conn.execute(sql.SQL("lock table only {} in access exclusive mode").format(sql.SQL(name)))
        conn.execute(sql.SQL("lock table {} in access exclusive mode").format(names.public))
        if pending(conn, names) > MOST_CHANGES_UNDER_LOCK:
            raise psycopg.errors.LockNotAvailable("too many changes came while the locks were waited for")
        replay(conn, names, old, targets)
        run_all(conn, statements)

    _, milliseconds = politely(
        conn,
        swap,
        what=f"exchanging the partitions of {names.table.qualified_name}",
        relation=names.table.qualified_name,
        also=[legacy, *referenced],
        before_try=prepare,
    )
    return milliseconds
