"""Segments in a migration: what is declared, and the triggers that note whose segments have to be computed again."""

import hashlib
from collections.abc import Iterator
from typing import Any, Final

from psycopg import sql
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, rows, value
from lifecycle.declarations.application import Application
from lifecycle.declarations.model import interval
from lifecycle.declarations.segments import Segments, Source, Target, Watch
from lifecycle.migrating.capability import Capability, Statements
from lifecycle.names import QualifiedName
from lifecycle.segments.triggers import drop_triggers, make_triggers

WRITE_POLICY: Final = sql.SQL(
    """insert into lifecycle.segment_policy as held
    (version, accounts_schema, accounts_table, accounts_key, weights, half_life, taste_weight, interaction_weight,
     declared)
values ({})
on conflict (singleton) do update set
    version = excluded.version, accounts_schema = excluded.accounts_schema, accounts_table = excluded.accounts_table,
    accounts_key = excluded.accounts_key, weights = excluded.weights, half_life = excluded.half_life,
    taste_weight = excluded.taste_weight, interaction_weight = excluded.interaction_weight,
    declared = excluded.declared"""
)
FORGET: Final = (
    sql.SQL("delete from lifecycle.segment_targets"),
    sql.SQL("delete from lifecycle.segment_watches"),
)
FORGET_POLICY: Final = sql.SQL("delete from lifecycle.segment_policy")
WRITE_TARGET: Final = sql.SQL(
    """insert into lifecycle.segment_targets
    (position, schema_name, table_name, key_column, document_column, path, consent) values ({})"""
)
# Whether a source was ever there outlives a change of its text.
WRITE_SOURCE: Final = sql.SQL(
    """insert into lifecycle.segment_sources (name, kind, position, query, optional, gone) values ({})
on conflict (name) do update set
    kind = excluded.kind, position = excluded.position, query = excluded.query, optional = excluded.optional,
    gone = excluded.gone"""
)
FORGET_SOURCES: Final = sql.SQL("delete from lifecycle.segment_sources where name <> all ({}::text[])")
WRITE_WATCH: Final = sql.SQL(
    """insert into lifecycle.segment_watches
    (schema_name, table_name, source, everybody, account_column, by_column, through_schema, through_table, through_id,
     through_account, columns, events) values ({})"""
)
# What is declared otherwise than last time asks for everybody's segments.
NOTE_DECLARATION: Final = """
update lifecycle.segment_policy set noted = declared where noted is distinct from declared returning true
"""
NOTE_EVERYBODY: Final = "insert into lifecycle.changed_segment_accounts default values"
LOOK: Final = "select lifecycle.look_at_segment_sources(lifecycle.segment_target())"
# What is lost of a source that nobody declares any more would never be found again.
FORGET_PROBLEMS: Final = """
select lifecycle.report_outcome(p.job, p.cause, null) from lifecycle.open_problems p
 where p.job = 'refresh_account_segments' and starts_with(p.cause, 'source ')
   and substr(p.cause, 8) not in (select s.name from lifecycle.segment_sources s)
"""


def _values(*found: Any) -> sql.Composed:
    return sql.SQL(", ").join(part if isinstance(part, sql.Composed) else sql.Literal(part) for part in found)


def _target(position: int, target: Target) -> sql.Composed:
    where = (target.table.schema, target.table.name, target.key, target.column, list(target.path), target.consent)
    return WRITE_TARGET.format(_values(position, *where))


def _watch(table: QualifiedName, source: str, watch: Watch) -> sql.Composed:
    through = watch.through
    by = (through.by, through.table.schema, through.table.name, through.id, through.account) if through else (None,) * 5
    columns = sql.SQL("{}::text[]").format(sql.Literal(list(watch.columns)))
    return WRITE_WATCH.format(
        _values(table.schema, table.name, source, watch.everybody, watch.account, *by, columns, list(watch.on))
    )


def _declared(segments: Segments) -> str:
    return hashlib.sha256(segments.model_dump_json(exclude={"batch_size"}).encode()).hexdigest()


def segment_policies(application: Application) -> Statements:
    """Sources, targets, weights, and the tables to watch."""
    segments = application.segments
    if segments.accounts is None:
        return (*FORGET, FORGET_SOURCES.format(sql.Literal([])), FORGET_POLICY)
    accounts, interactions = segments.accounts, segments.interactions
    sources: list[tuple[str, str, Source]] = list(segments.sources())
    policy = _values(
        segments.version,
        accounts.table.schema,
        accounts.table.name,
        accounts.key,
        Jsonb(interactions.weights if interactions else {}),
        interval(interactions.half_life) if interactions else None,
        segments.taste_weight,
        segments.interaction_weight,
        _declared(segments),
    )
    own = [
        (target.table, "", Watch(account=target.key, columns=(target.column,), on=("insert", "update")))
        for target in segments.targets
    ]
    watched = [(table, name, watch) for name, _, source in sources for table, watch in source.watches.items()]
    return (
        WRITE_POLICY.format(policy),
        *FORGET,
        *(_target(position, target) for position, target in enumerate(segments.targets)),
        FORGET_SOURCES.format(sql.Literal([name for name, _, _ in sources])),
        *(
            WRITE_SOURCE.format(_values(name, kind, position, source.sql, source.optional, source.gone))
            for position, (name, kind, source) in enumerate(sources)
        ),
        *(_watch(table, source, watch) for table, source, watch in (*own, *watched)),
    )


def watch_tables(conn: Connection, application: Application) -> Iterator[str]:
    """Make the triggers, drop those of tables that are no longer declared, and ask for everybody after a change."""
    yield from make_triggers(conn, application)
    with conn.transaction():
        rows(conn, FORGET_PROBLEMS)
        if not application.segments.targets:
            return
        rows(conn, LOOK)
        if value(conn, NOTE_DECLARATION):
            conn.execute(NOTE_EVERYBODY.encode())
            yield "segments: the next refresh computes everybody's"


SEGMENTS: Final = Capability(
    "segments",
    declared=lambda application: bool(application.segments.targets),
    files=("sources.sql", "segments.sql"),
    policies=segment_policies,
    objects=watch_tables,
    undo=drop_triggers,
    works_on_rows=True,
)
