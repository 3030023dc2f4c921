"""Changes made to the old table while its rows are copied: caught by a trigger, replayed by key.

Adding the trigger waits for the writers in flight and keeps later ones out until it exists, so every change that a
copy could miss is caught. Rows travel inside the server only; no value reaches this process.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from psycopg import sql

from lifecycle.database import Connection, politely, rows, run_all, value
from lifecycle.errors import BusyError
from lifecycle.partitions.catalog import Names, TableStructure
from lifecycle.partitions.months import bound

CAPTURE_TRIGGER = "lifecycle_capture"
CAPTURE_TRIGGERS = """
select tgname::text from pg_trigger where tgrelid = to_regclass(%s) and tgname like 'lifecycle\\_capture%%' order by 1
"""
CAPTURES_ALL = """
select count(*) = 2 from pg_trigger
 where tgrelid = to_regclass(%s) and tgname like 'lifecycle\\_capture%%' and tgenabled = 'A'
"""
# SECURITY DEFINER: the application's roles write the table and have no rights in schema lifecycle.
CAPTURE_FUNCTION = """
create or replace function {function}() returns trigger
language plpgsql security definer set search_path = ''
as $capture$
begin
    if tg_op = 'TRUNCATE' then
        -- No key says it: a row without one tells the conversion that every copy is worthless.
        insert into {capture} default values;
        return null;
    end if;
    if tg_op <> 'DELETE' then
        insert into {capture} ({key}) values ({new_key});
    end if;
    if tg_op = 'DELETE' or (tg_op = 'UPDATE' and ({old_key}) is distinct from ({new_key})) then
        insert into {capture} ({key}) values ({old_key});
    end if;
    return null;
end $capture$
"""


TRUNCATED = sql.SQL("select exists (select from pg_temp.replayed_keys where {} is null)")


@dataclass(frozen=True)
class Target:
    """One new partition: rows with lower <= time < upper; None is open. The default takes what no other takes."""

    name: str
    marker: str
    lower: datetime | None
    upper: datetime | None

    @property
    def is_default(self) -> bool:
        return self.marker == "default"

    def condition(self, time_column: sql.Composable, others: "list[Target]") -> sql.Composable:
        """The rows that belong here, as a condition on `time_column`."""
        if self.is_default:
            return _outside(time_column, [other for other in others if not other.is_default])
        bounds: list[sql.Composable] = []
        if self.lower is not None:
            bounds.append(sql.SQL("{} >= {}").format(time_column, bound(self.lower)))
        if self.upper is not None:
            bounds.append(sql.SQL("{} < {}").format(time_column, bound(self.upper)))
        return sql.SQL("({})").format(sql.SQL(" and ").join(bounds))

    def for_values(self) -> sql.Composable:
        """The bounds as ATTACH PARTITION takes them."""
        if self.is_default:
            return sql.SQL("default")
        lower = sql.SQL("minvalue") if self.lower is None else bound(self.lower)
        upper = sql.SQL("maxvalue") if self.upper is None else bound(self.upper)
        return sql.SQL("for values from ({}) to ({})").format(lower, upper)


def _outside(time_column: sql.Composable, targets: list[Target]) -> sql.Composable:
    """What lies before and after `targets`, which leave no gap between them; an index can answer it."""
    if not targets or targets[-1].upper is None:
        return sql.SQL("true")
    ends = [sql.SQL("{} >= {}").format(time_column, bound(targets[-1].upper))]
    if targets[0].lower is not None:
        ends.append(sql.SQL("{} < {}").format(time_column, bound(targets[0].lower)))
    return sql.SQL("({})").format(sql.SQL(" or ").join(ends))


def _key(old: TableStructure, names: Names, prefix: str = "") -> sql.Composable:
    dot = f"{prefix}." if prefix else ""
    return sql.SQL(", ").join(sql.SQL(dot) + sql.Identifier(column) for column in old.new_key(names.table.time_column))


def start_capture(conn: Connection, names: Names, old: TableStructure) -> bool:
    """Create the capture table and trigger; False when an earlier run did and its copies are still good."""
    legacy = names.legacy.as_string(conn)
    if captures_all(conn, names):
        return False
    for (trigger,) in rows(conn, CAPTURE_TRIGGERS, (legacy,)):
        # Switched off for a while, they have missed changes: what was copied and captured so far is worth nothing.
        drop = sql.SQL("drop trigger {} on {}").format(sql.Identifier(trigger), names.legacy)
        politely(conn, partial(conn.execute, drop), what=f"capturing changes of {legacy} anew", relation=legacy)
    with conn.transaction():
        run_all(
            conn,
            [
                sql.SQL("drop table if exists {}").format(names.capture),
                sql.SQL("create table {} as select {} from {} with no data").format(
                    names.capture, _key(old, names), names.legacy
                ),
                sql.SQL("alter table {} enable row level security").format(names.capture),
                # Published along with its schema, it could not be deleted from without an identity.
                sql.SQL("alter table {} replica identity full").format(names.capture),
                sql.SQL(CAPTURE_FUNCTION).format(
                    function=names.capture_function,
                    capture=names.capture,
                    key=_key(old, names),
                    new_key=_key(old, names, "new"),
                    old_key=_key(old, names, "old"),
                ),
                sql.SQL("revoke all on function {}() from public").format(names.capture_function),
            ],
        )
    politely(
        conn,
        lambda: run_all(conn, _trigger_statements(names)),
        what=f"capturing changes of {names.table.qualified_name}",
        relation=legacy,
    )
    return True


def captures_all(conn: Connection, names: Names) -> bool:
    """Whether the triggers exist and always fire, as they were made; somebody may have switched them off meanwhile."""
    return bool(value(conn, CAPTURES_ALL, (names.legacy.as_string(conn),)))


def _trigger_statements(names: Names) -> list[sql.Composable]:
    """Triggers that also see what apply workers and imports write with session_replication_role = replica."""
    statements: list[sql.Composable] = []
    for name, event, each in (
        (CAPTURE_TRIGGER, "insert or update or delete", "row"),
        (f"{CAPTURE_TRIGGER}_truncate", "truncate", "statement"),
    ):
        trigger = sql.Identifier(name)
        statements += [
            sql.SQL("create trigger {} after {} on {} for each {} execute function {}()").format(
                trigger, sql.SQL(event), names.legacy, sql.SQL(each), names.capture_function
            ),
            sql.SQL("alter table {} enable always trigger {}").format(names.legacy, trigger),
        ]
    return statements


def was_truncated(conn: Connection, names: Names, old: TableStructure) -> bool:
    """Whether the old table was emptied by TRUNCATE since its copies were made."""
    query = sql.SQL("select exists (select from {} where {} is null)").format(
        names.capture, sql.Identifier(old.primary_key[0])
    )
    return bool(value(conn, query.as_string(conn)))


def forget_truncation(conn: Connection, names: Names, old: TableStructure) -> None:
    """Remove the mark, once no copy from before is left."""
    conn.execute(sql.SQL("delete from {} where {} is null").format(names.capture, sql.Identifier(old.primary_key[0])))


def pending(conn: Connection, names: Names) -> int:
    """Captured changes that wait to be replayed."""
    return int(value(conn, sql.SQL("select count(*) from {}").format(names.capture).as_string(conn)))


def prepare_replay(conn: Connection, names: Names) -> None:
    """Make the session's work table, before any lock is held."""
    conn.execute(
        sql.SQL("create temp table if not exists replayed_keys (like {}) on commit delete rows").format(names.capture)
    )


def replay(conn: Connection, names: Names, old: TableStructure, targets: list[Target]) -> int:
    """Bring the new partitions up to date with every change captured and committed so far; returns the keys.

    Each captured key is deleted from the copy and read again from the old table. Runs in the caller's transaction:
    either the keys are gone from the capture table and applied, or neither.
    """
    # One row locked by two replays would be applied by both; the operation lock keeps a second away.
    keys = conn.execute(
        sql.SQL(
            "with taken as (delete from {capture} returning {key})"
            " insert into pg_temp.replayed_keys select distinct {key} from taken"
        ).format(capture=names.capture, key=_key(old, names))
    ).rowcount
    if not keys:
        return 0
    if value(conn, TRUNCATED.format(sql.Identifier(old.primary_key[0])).as_string(conn)):
        raise BusyError(
            f"{names.table.qualified_name} was truncated while it was copied. Nothing was switched over; run the "
            "conversion again, it copies what is there now."
        )
    touched = sql.SQL(" union all ").join(
        sql.SQL("select {}::int where exists (select from pg_temp.replayed_keys r where {})").format(
            sql.Literal(position), target.condition(sql.SQL("r.") + names.time_column, targets)
        )
        for position, target in enumerate(targets)
    )
    same_key = sql.SQL(" and ").join(
        sql.SQL("t.{0} = r.{0}").format(sql.Identifier(column)) for column in old.new_key(names.table.time_column)
    )
    statements: list[sql.Composable] = []
    for (position,) in conn.execute(touched).fetchall():
        target = targets[position]
        statements += [
            sql.SQL("delete from {} t using pg_temp.replayed_keys r where {}").format(
                names.partition(target.name), same_key
            ),
            sql.SQL("insert into {} ({}) select {} from only {} t join pg_temp.replayed_keys r on {} where {}").format(
                names.partition(target.name),
                old.written_columns,
                sql.SQL(", ").join(
                    sql.SQL("t.") + sql.Identifier(column.name) for column in old.columns if not column.generated
                ),
                names.legacy,
                same_key,
                target.condition(sql.SQL("r.") + names.time_column, targets),
            ),
        ]
    statements.append(sql.SQL("truncate pg_temp.replayed_keys"))
    run_all(conn, statements)
    return keys


def stop_capture(conn: Connection, names: Names) -> None:
    """Drop what capturing needed; the old table must be gone."""
    run_all(
        conn,
        [
            sql.SQL("drop table if exists {}").format(names.capture),
            sql.SQL("drop function if exists {}()").format(names.capture_function),
        ],
    )
