"""Columns that may hold personal data and are on no map, with the way that leads from them to the person.

Asks the catalog alone, so it works before `lifecycle migrate`, too.
"""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lifecycle.database import Connection, rows
from lifecycle.declarations.application import Application
from lifecycle.declarations.personal_data import PERSON, PersonalData
from lifecycle.erasures.data_map import mapped_tables
from lifecycle.names import QualifiedName, quoted

# The types that the search reads (lifecycle.searched_columns); a materialized view is made anew and needs no line.
COLUMNS: Final = """
select n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, null), not a.attnotnull
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
  left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'
  left join pg_type d on d.oid = t.typbasetype and t.typtype = 'd'
 where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname !~ '^pg_' and n.nspname <> all (%s)
   and (coalesce(d.typname, t.typname) = any (%s) or coalesce(d.typcategory, t.typcategory) in ('S', 'C')
        or e.typname = any (%s) or e.typcategory in ('S', 'C') or d.typtype = 'd' or e.typtype = 'd')
 order by n.nspname, c.relname, a.attnum
"""
# A number alone tells nobody; one that leads to the person does.
NUMBERS: Final = """
select n.nspname::text, c.relname::text, a.attname::text, format_type(a.atttypid, null)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence <> 't'
   and n.nspname !~ '^pg_' and n.nspname <> all (%s)
   and a.atttypid = any ('{int2,int4,int8}'::regtype[])
 order by n.nspname, c.relname, a.attnum
"""
TYPES: Final = ["uuid", "json", "jsonb", "inet", "cidr", "bytea", "hstore", "xml", "tsvector"]
REFERENCES: Final = """
select n.nspname::text, c.relname::text, a.attname::text, fn.nspname::text, f.relname::text, fa.attname::text,
       k.confdeltype::text, not a.attnotnull
  from pg_constraint k
  join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
  join pg_class f on f.oid = k.confrelid join pg_namespace fn on fn.oid = f.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
  join pg_attribute fa on fa.attrelid = f.oid and fa.attnum = k.confkey[1]
 where k.contype = 'f' and cardinality(k.conkey) = 1 and not c.relispartition
 order by 1, 2, 3
"""
# Schemas of this project and of PostgreSQL.
OURS: Final = ("lifecycle", "event_partitions", "information_schema")
# Text of any length and documents: what somebody may have typed.
FREE_FORM: Final = ("text", "character varying", "json", "jsonb", "text[]", "xml")
SET_NULL: Final = "n"


@dataclass(frozen=True)
class Reference:
    """One foreign key over one column. `deletes` is the letter of ON DELETE in pg_constraint."""

    table: QualifiedName
    column: str
    target: QualifiedName
    target_column: str
    deletes: str
    nullable: bool


@dataclass(frozen=True)
class UndeclaredColumn:
    """`path` are the foreign keys from its table to the person, or to a table whose keys are known; empty when there is
    none. `key` is the kind of key that `by` is compared with, and `do` what is proposed for the rows."""

    table: QualifiedName
    column: str
    type: str
    table_is_mapped: bool
    path: tuple[str, ...] = ()
    by: str | None = None
    key: str | None = None
    do: str | None = None


def undeclared_columns(conn: Connection, application: Application) -> tuple[UndeclaredColumn, ...]:
    """Every such column, by table; none when no personal data is declared at all."""
    data = application.personal_data
    if data is None:
        return ()
    mapped = {table.name: table for table in mapped_tables(application)}
    skipped = [*OURS, *application.database.managed_schemas]
    ways = _Ways(data, _references(conn))
    found: list[UndeclaredColumn] = []
    columns = [
        (QualifiedName(s, t), column, kind) for s, t, column, kind, _ in rows(conn, COLUMNS, (skipped, TYPES, TYPES))
    ]
    numbers = [(QualifiedName(s, t), column, kind) for s, t, column, kind in rows(conn, NUMBERS, (skipped,))]
    for table, column, kind in (*columns, *(each for each in numbers if ways.lead_to_somebody(each[0], each[1]))):
        known = mapped.get(table)
        if known is not None and {column, "*"} & known.treatments.keys():
            continue
        if known is not None:
            found.append(UndeclaredColumn(table, column, kind, True))
        else:
            found.append(ways.proposal(table, column, kind))
    return tuple(found)


def _references(conn: Connection) -> list[Reference]:
    return [
        Reference(QualifiedName(s, t), column, QualifiedName(fs, ft), target, deletes, nullable)
        for s, t, column, fs, ft, target, deletes, nullable in rows(conn, REFERENCES)
    ]


class _Ways:
    """From a table to the person, along foreign keys, as far as the first column whose keys are collected."""

    def __init__(self, data: PersonalData, references: Sequence[Reference]) -> None:
        self.ends: dict[tuple[QualifiedName, str], str] = {(data.person.table, data.person.key): PERSON}
        for kind, key in data.keys.items():
            for source in key.sources:
                if source.table is not None and source.take is not None:
                    self.ends.setdefault((source.table, source.take), kind)
        self.from_table: Mapping[QualifiedName, list[Reference]] = defaultdict(list)
        for reference in references:
            self.from_table[reference.table].append(reference)
        # A column that is named as one that leads to a person elsewhere, where no foreign key says so.
        self.named = {step.by: step.key for table in data.tables.values() for step in table.steps if step.by != "id"}

    def lead_to_somebody(self, table: QualifiedName, column: str) -> bool:
        """Whether a foreign key ties this column to the person, or to a table whose keys are known."""
        return any(
            reference.column == column and (reference.target, reference.target_column) in self.ends
            for reference in self.from_table[table]
        )

    def proposal(self, table: QualifiedName, column: str, kind: str) -> UndeclaredColumn:
        waiting: deque[tuple[QualifiedName, tuple[Reference, ...]]] = deque([(table, ())])
        seen = {table}
        while waiting:
            place, path = waiting.popleft()
            for step in self.from_table[place]:
                way = (*path, step)
                if end := self.ends.get((step.target, step.target_column)):
                    return self._proposed(table, column, kind, way, end)
                if step.target not in seen:
                    seen.add(step.target)
                    waiting.append((step.target, way))
        if column in self.named:
            return UndeclaredColumn(table, column, kind, False, (), column, self.named[column], "delete")
        return UndeclaredColumn(table, column, kind, False)

    @staticmethod
    def _proposed(table: QualifiedName, column: str, kind: str, way: Sequence[Reference], end: str) -> UndeclaredColumn:
        path = tuple(f"{r.table}.{quoted(r.column)} -> {r.target}.{quoted(r.target_column)}" for r in way)
        if len(way) > 1:
            # Its keys are those of a table between, which nobody collects yet.
            return UndeclaredColumn(table, column, kind, False, path, way[0].column)
        first = way[0]
        do = "scrub" if first.deletes == SET_NULL and first.nullable else "delete"
        return UndeclaredColumn(table, column, kind, False, path, first.column, end, do)


@dataclass(frozen=True)
class Proposal:
    """Lines for `tables:` of personal_data.yaml: a new entry, or what to add to the entry of a table that is mapped."""

    table: QualifiedName
    told: str
    lines: str
    new: bool


def proposals(found: Sequence[UndeclaredColumn]) -> Iterator[Proposal]:
    """What would make the map complete again, table by table; a person decides whether it is right."""
    tables: dict[QualifiedName, list[UndeclaredColumn]] = defaultdict(list)
    for column in found:
        tables[column.table].append(column)
    for name, columns in tables.items():
        yield _added(name, columns) if columns[0].table_is_mapped else _entry(name, columns)


def _added(name: QualifiedName, columns: Sequence[UndeclaredColumn]) -> Proposal:
    typed = [column.column for column in columns if column.type in FREE_FORM]
    others = [column.column for column in columns if column.type not in FREE_FORM]
    lines = [f"redacted: [{_listed(typed)}]"] if typed else []
    lines += [f"clean: [{_listed(others)}]"] if others else []
    return Proposal(
        name,
        f"has columns on no map: {_listed([column.column for column in columns])}. Add them to its entry: `set` of its "
        "steps where they are the person's, redacted where others may have typed, clean where nobody can stand",
        "\n".join(lines),
        new=False,
    )


def _entry(name: QualifiedName, columns: Sequence[UndeclaredColumn]) -> Proposal:
    steps = {(c.by, c.key, c.do): c for c in columns if c.by is not None and c.key is not None}
    way = next((c.path for c in columns if c.path), ())
    typed = [c.column for c in columns if c.type in FREE_FORM]
    lines = [f"{name}:"]
    if not steps:
        lines += ["  why: nothing leads from here to a person", f"  clean: [{_listed([c.column for c in columns])}]"]
    else:
        lines += ["  why: proposed by lifecycle check; say what it holds", "  steps:"]
        for by, key, do in steps:
            scrubbed = ", ".join(f"{column}: null" for column in dict.fromkeys([by]) if column)
            rest = f", do: scrub, set: {{{scrubbed}}}" if do == "scrub" else ""
            lines.append(f"    - {{by: {by}, key: {key}{rest}}}")
        if any(do == "scrub" for _, _, do in steps):
            named = {by for by, _, _ in steps}
            lines += [f"  redacted: [{_listed(typed)}]"] if typed else []
            others = [c.column for c in columns if c.column not in {*typed, *named}]
            lines += [f"  clean: [{_listed(others)}]"] if others else []
        elif typed:
            lines.append(f"  redacted: [{_listed(typed)}]")
    told = f"is on no map of personal data{f' ({way[0]})' if way else ''}: {_listed([c.column for c in columns])}"
    return Proposal(name, told, "\n".join(lines), new=True)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
