"""What a database holds, as far as drafts ask: tables with columns, sizes and statistics, foreign keys. Reads only."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property
from typing import Final

from lifecycle.access.exposures import OWN_SCHEMAS
from lifecycle.access.model import HELPER_SCHEMA
from lifecycle.database import Connection, rows
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName, quoted

# Supabase's own; a database without its users is nobody's platform.
SIGN_INS: Final = QualifiedName("auth", "users")
PLATFORM: Final = (
    "_analytics", "_realtime", "auth", "cron", "extensions", "graphql", "graphql_public", "net", "pgbouncer", "pgmq",
    "pgsodium", "pgsodium_masks", "realtime", "storage", "supabase_functions", "supabase_migrations", "vault",
)  # fmt: skip
SCHEMAS: Final = """
select n.nspname::text, has_schema_privilege(n.oid, 'usage'),
       exists (select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm'))
         and not exists (select from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm')
                            and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass
                                               and d.objid = c.oid and d.deptype = 'e'))
  from pg_namespace n
 where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and n.nspname <> all (%s)
   and not (n.nspname = %s and coalesce(obj_description(n.oid, 'pg_namespace'), '') like 'lifecycle: %%')
 order by 1
"""
RELATIONS: Final = """
select n.nspname::text, c.relname::text, c.oid::bigint, c.relkind::text,
       case when c.reltuples >= 0 then c.reltuples::bigint end,
       case when c.relkind = 'p'
            then (select sum(pg_total_relation_size(t.relid))::bigint from pg_partition_tree(c.oid) t)
            else pg_total_relation_size(c.oid) end,
       pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'usage'),
       has_table_privilege(c.oid, 'select'), c.relispopulated,
       coalesce(s.n_tup_ins, 0), coalesce(s.n_tup_upd + s.n_tup_del, 0)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace left join pg_stat_all_tables s on s.relid = c.oid
 where c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition and n.nspname = any (%s)
   and not exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid
                                             and d.deptype = 'e')
 order by 1, 2
"""
FIELDS: Final = ("kind", "rows", "bytes", "owner", "ours", "readable", "populated", "inserted", "changed")
COLUMNS: Final = """
select a.attrelid::bigint, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '',
       coalesce(pg_get_expr(d.adbin, d.adrelid), ''), s.avg_width,
       case when format_type(a.atttypid, null) ~ '^(timestamp|date)' then s.histogram_bounds::text::text[] end,
       exists (select from pg_index i where i.indrelid = a.attrelid and i.indisunique and i.indpred is null
                                        and i.indnkeyatts = 1 and i.indkey[0] = a.attnum),
       exists (select from pg_index i where i.indrelid = a.attrelid and i.indisvalid and i.indpred is null
                                        and i.indkey[0] = a.attnum)
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum and a.attgenerated = ''
  left join pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname and s.attname = a.attname
                      and s.inherited = (c.relkind = 'p')
 where a.attrelid = any (%s) and a.attnum > 0 and not a.attisdropped
 order by a.attrelid, a.attnum
"""
KEYS: Final = """
select k.conrelid::bigint, array(select a.attname::text from unnest(k.conkey) with ordinality u(n, o)
                           join pg_attribute a on a.attrelid = k.conrelid and a.attnum = u.n order by u.o)
  from pg_constraint k where k.contype = 'p' and k.conrelid = any (%s)
"""
REFERENCES: Final = """
select k.conrelid::bigint, a.attname::text, not a.attnotnull, fn.nspname::text, f.relname::text, fa.attname::text,
       k.confdeltype::text
  from pg_constraint k
  join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
  join pg_class f on f.oid = k.confrelid join pg_namespace fn on fn.oid = f.relnamespace
  join pg_attribute fa on fa.attrelid = f.oid and fa.attnum = k.confkey[1]
 where k.contype = 'f' and cardinality(k.conkey) = 1 and k.conrelid = any (%s)
 order by 1, a.attnum, 4, 5
"""
WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


@cache
def words(name: str) -> tuple[str, ...]:
    """The words of a name in snake_case or camelCase, in small letters."""
    return tuple(word.lower() for word in WORDS.findall(name))


@dataclass(frozen=True)
class Column:
    """One column. `width` (bytes) and `bounds` (of times) are the planner's statistics, None where it has none or the
    role may not read the table. `indexed`: an index begins with it."""

    name: str
    type: str
    not_null: bool
    generated: bool
    default: str
    width: int | None
    bounds: tuple[str, ...] | None
    unique: bool
    indexed: bool


@dataclass(frozen=True)
class Relation:
    """One table or view. `rows` is the planner's estimate, None before the first ANALYZE; `bytes` with indexes.

    `ours`: the session's role is the owner or a member of it. `inserted` and `changed` count rows since the statistics
    began.
    """

    name: QualifiedName
    oid: int
    kind: str
    rows: int | None
    bytes: int
    owner: str
    ours: bool
    readable: bool
    populated: bool
    inserted: int
    changed: int
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True)
class Reference:
    """A foreign key over one column. `deletes` is the letter of ON DELETE in pg_constraint."""

    table: QualifiedName
    column: str
    nullable: bool
    target: QualifiedName
    target_column: str
    deletes: str


@dataclass(frozen=True)
class Survey:
    """The application's relations and foreign keys, without what the platform, extensions and this project keep.

    `managed` are the platform's schemas; `sign_ins` says whether people sign in there. `missing` says what the role may
    not see, and the grant that would cure it.
    """

    managed: tuple[str, ...]
    sign_ins: bool
    relations: Mapping[QualifiedName, Relation]
    references: tuple[Reference, ...]
    missing: tuple[Phrase, ...]

    def of_kind(self, *kinds: str) -> tuple[Relation, ...]:
        """Relations of these kinds (pg_class.relkind), by name."""
        return tuple(relation for relation in self.relations.values() if relation.kind in kinds)

    @property
    def tables(self) -> tuple[Relation, ...]:
        return self.of_kind("r", "p")

    def references_to(self, table: QualifiedName) -> tuple[Reference, ...]:
        return tuple(self._by_target[table])

    def references_of(self, table: QualifiedName) -> tuple[Reference, ...]:
        return tuple(self._by_table[table])

    @cached_property
    def _by_table(self) -> Mapping[QualifiedName, list[Reference]]:
        return _grouped((reference.table, reference) for reference in self.references)

    @cached_property
    def _by_target(self) -> Mapping[QualifiedName, list[Reference]]:
        return _grouped((reference.target, reference) for reference in self.references)


def _grouped(references: Iterable[tuple[QualifiedName, Reference]]) -> Mapping[QualifiedName, list[Reference]]:
    found: dict[QualifiedName, list[Reference]] = defaultdict(list)
    for name, reference in references:
        found[name].append(reference)
    return found


def survey(conn: Connection, managed: tuple[str, ...]) -> Survey:
    """Ask the catalog and the planner's statistics, in the caller's transaction; no row of the application is read.

    `managed` are schemas that somebody has declared to be the platform's.
    """
    found = rows(conn, SCHEMAS, (list(OWN_SCHEMAS), HELPER_SCHEMA))
    sign_ins = SIGN_INS.schema in {schema for schema, _, _ in found}
    theirs = set(managed) | (set(PLATFORM) if sign_ins else set())
    theirs |= {schema for schema, _, of_extension in found if of_extension}
    schemas = {schema: usage for schema, usage, _ in found if schema not in theirs}
    role = conn.info.user
    missing = [
        Phrase("schema {schema}: grant usage on schema {schema} to {role}", schema=quoted(schema), role=quoted(role))
        for schema, usage in schemas.items()
        if not usage
    ]
    relations = _relations(conn, [schema for schema, usage in schemas.items() if usage])
    missing += [
        Phrase("{relation}: grant select on {relation} to {role}", relation=relation.name, role=quoted(role))
        for relation in relations.values()
        if not relation.readable
    ]
    names = {relation.oid: relation.name for relation in relations.values()}
    references = tuple(
        Reference(names[oid], column, nullable, QualifiedName(schema, name), target, deletes)
        for oid, column, nullable, schema, name, target, deletes in rows(conn, REFERENCES, (list(names),))
    )
    return Survey(tuple(sorted(theirs)), sign_ins, relations, tuple(sorted(references, key=_place)), tuple(missing))


def _place(reference: Reference) -> QualifiedName:
    """By table; the columns of each stay in its order."""
    return reference.table


def _relations(conn: Connection, schemas: list[str]) -> dict[QualifiedName, Relation]:
    found = rows(conn, RELATIONS, (schemas,))
    oids = [row[2] for row in found]
    columns: dict[int, list[Column]] = defaultdict(list)
    for oid, name, type_name, not_null, generated, default, width, bounds, unique, indexed in rows(
        conn, COLUMNS, (oids,)
    ):
        held = None if bounds is None else tuple(bounds)
        columns[oid].append(Column(name, type_name, not_null, generated, default, width, held, unique, indexed))
    keys = {oid: tuple(key) for oid, key in rows(conn, KEYS, (oids,))}
    made = [
        Relation(
            name=QualifiedName(schema, name),
            oid=oid,
            columns=tuple(columns[oid]),
            key=keys.get(oid, ()),
            **dict(zip(FIELDS, rest, strict=True)),
        )
        for schema, name, oid, *rest in found
    ]
    return {relation.name: relation for relation in made}


def months_between(first: str, last: str) -> float | None:
    """How many months of 30 days lie between two times as PostgreSQL prints them; None for infinity and years BC."""
    try:
        days = (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds() / 86400
    except (ValueError, TypeError):
        return None
    return days / 30
