"""Views over a table and its archive: rows that move change no figure.

Around its own definition a view gets a CTE of the table's name that holds the rows of both:

    WITH messages AS NOT MATERIALIZED (SELECT ... FROM public.messages m UNION ALL SELECT ... FROM public.archive a)
    SELECT <columns> FROM (<definition>) lifecycle_seam

The CTE has the columns that the definition reads and no others, so that it pins none of the application's.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokens import Token, TokenType

from lifecycle.archive.layout import Layout
from lifecycle.database import Connection, rows
from lifecycle.declarations.model import fixed_length
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.definition import parse_definition

MARK: Final = "lifecycle_seam"
# Midnights differ from zone to zone.
A_DAY: Final = timedelta(days=1)
READS: Final = """
select n.nspname::text, c.relname::text, array(
           select a.attname::text from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              and (a.attnum = any (array_agg(d.refobjsubid)) or 0 = all (array_agg(d.refobjsubid))) order by a.attnum)
  from pg_rewrite w
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
  join pg_class c on c.oid = d.refobjid and c.oid <> w.ev_class
  join pg_namespace n on n.oid = c.relnamespace
 where w.ev_class = %s::regclass group by n.nspname, c.oid, c.relname
"""


@dataclass(frozen=True)
class Both:
    """A table and its archive in the eyes of one view: the columns that it reads."""

    layout: Layout
    columns: tuple[str, ...]

    @property
    def table(self) -> QualifiedName:
        return self.layout.archive.source

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Columns whose old values only a reader outside of the database can unpack."""
        packed = {column.name for column in self.layout.compressed}
        return tuple(column for column in self.columns if column in packed)

    def rows(self) -> str:
        """The rows of both, as SQL."""
        live = ", ".join(f"m.{quoted(name)}" for name in self.columns)
        return (
            f"SELECT {live} FROM {self.table} m UNION ALL"
            f" SELECT {', '.join(map(self._archived, self.columns))} FROM {self.layout.archive.declared.archive} a"
        )

    def _archived(self, name: str) -> str:
        column = self.layout.column(name)
        if column.compressed:
            return f"NULL::{column.type} AS {quoted(name)}"
        cast = "" if column.built_in else f"::{column.type}"
        return f"a.{quoted(name)}{cast} AS {quoted(name)}"


def read_both(conn: Connection, view: QualifiedName, archives: Mapping[QualifiedName, Layout]) -> tuple[Both, ...]:
    """The archived tables that a view reads itself, views that it reads left aside, and whose archive it does not."""
    read = {QualifiedName(schema, name): tuple(columns) for schema, name, columns in rows(conn, READS, (str(view),))}
    return tuple(
        Both(layout, read[table])
        for table, layout in archives.items()
        if table in read and layout.archive.declared.archive not in read
    )


def needs_old_texts(definition: str, both: Both) -> str | None:
    """The packed column of which the definition may need old values; None where it cannot.

    It cannot where each SELECT that reads one keeps to groups that began more recently than their rows may move: that
    joins the table of groups by its key and compares its time with the present, less than the declared age.
    """
    groups = both.layout.archive.declared.groups
    if not both.unreadable:
        return None
    if groups.time is None or groups.after is None:
        return both.unreadable[0]
    for select in parse_definition(definition).find_all(exp.Select):
        aliases = {table.alias_or_name: QualifiedName(table.db, table.name) for table in _tables(select)}
        for alias in (alias for alias, name in aliases.items() if name == both.table):
            read = {
                c.name
                for c in select.find_all(exp.Column)
                if c.table == alias and c.find_ancestor(exp.Select) is select
            }
            if needed := read & set(both.unreadable):
                within = [a for a, name in aliases.items() if name == groups.table and _joined(select, alias, a, both)]
                if not any(_looks_back_less(select, found, both) for found in within):
                    return min(needed)
    return None


def _tables(select: exp.Select) -> Iterator[exp.Table]:
    start = select.args.get("from_") or select.args.get("from")
    for source in (start, *(select.args.get("joins") or ())):
        if source is not None and isinstance(source.this, exp.Table):
            yield source.this


def _conditions(select: exp.Select) -> Iterator[exp.Expr]:
    """What holds of every row of the SELECT's first table: its WHERE, part by part."""
    where = select.args.get("where")
    if where is not None:
        body = where.this.unnest()
        yield from (part.unnest() for part in (body.flatten() if isinstance(body, exp.And) else (body,)))


def _joined(select: exp.Select, rows_alias: str, groups_alias: str, both: Both) -> bool:
    declared = both.layout.archive.declared
    wanted = {(rows_alias, declared.group), (groups_alias, declared.groups.id)}
    parts = list(_conditions(select))
    for join in select.args.get("joins") or ():
        on = join.args.get("on")
        if on is not None:
            body = on.unnest()
            parts += [part.unnest() for part in (body.flatten() if isinstance(body, exp.And) else (body,))]
    return any(
        isinstance(part, exp.EQ)
        and {
            (side.table, side.name)
            for side in (part.left.unnest(), part.right.unnest())
            if isinstance(side, exp.Column)
        }
        == wanted
        for part in parts
    )


def _looks_back_less(select: exp.Select, groups_alias: str, both: Both) -> bool:
    groups = both.layout.archive.declared.groups
    for part in _conditions(select):
        if not isinstance(part, exp.GTE | exp.GT):
            continue
        column, since = part.left.unnest(), part.right.unnest()
        if not (isinstance(column, exp.Column) and (column.table, column.name) == (groups_alias, groups.time)):
            continue
        if isinstance(since, exp.Sub) and isinstance(since.left.unnest(), exp.CurrentDate | exp.CurrentTimestamp):
            back = _length(since.right.unnest())
            if back is not None and groups.after and back + A_DAY < fixed_length(groups.after):
                return True
    return False


def _length(interval: exp.Expr) -> timedelta | None:
    """How long an interval is that PostgreSQL prints as days or as a time of day; None for any other."""
    text = interval.this if isinstance(interval, exp.Cast) else interval
    if isinstance(text, exp.Interval):
        text = text.this
    if not isinstance(text, exp.Literal):
        return None
    if days := re.fullmatch(r"(\d+) days?", text.name):
        return timedelta(days=int(days[1]))
    if clock := re.fullmatch(r"(\d+):(\d\d):(\d\d)", text.name):
        hours, minutes, seconds = map(int, clock.groups())
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return None


def over_both(definition: str, columns: Sequence[str], read: Sequence[Both]) -> str:
    """The definition over tables and archives; RefusedError where the text gives no room for it."""
    body = definition.strip().removesuffix(";")
    parts = []
    for both in read:
        body = _unqualified(body, both.table)
        parts.append(f"{quoted(both.table.name)} AS NOT MATERIALIZED ({both.rows()})")
    shown = ", ".join(f"{MARK}.{quoted(name)}" for name in columns)
    return f"WITH {', '.join(parts)} SELECT {shown} FROM ({body}) {MARK}"


def inner_definition(text: str) -> str | None:
    """The application's own definition inside such a view; None for any other.

    It names the archived tables without their schema.
    """
    end = text.rfind(f") {MARK}")
    if end < 0:
        return None
    open_brackets: list[int] = []
    for token in Postgres.Tokenizer().tokenize(text):
        if token.start == end:
            # What PostgreSQL prints before the bracket differs from version to version.
            return text[open_brackets[-1] + 1 : end].strip()
        if token.token_type is TokenType.L_PAREN:
            open_brackets.append(token.start)
        elif token.token_type is TokenType.R_PAREN:
            open_brackets.pop()
    return None


def _unqualified(body: str, table: QualifiedName) -> str:
    """The text with `schema.table` as `table` alone, which then means the CTE."""
    tokens = Postgres.Tokenizer().tokenize(body)
    if any(_names(token, table.name) and _opens_cte(tokens, place) for place, token in enumerate(tokens)):
        raise RefusedError(Phrase("it has a CTE named {name} itself", name=table.name))
    for place in range(len(tokens) - 3, -1, -1):
        schema, dot, name = tokens[place : place + 3]
        if _names(schema, table.schema) and dot.token_type is TokenType.DOT and _names(name, table.name):
            if place and tokens[place - 1].token_type is TokenType.DCOLON:
                raise RefusedError(Phrase("it names {table} as a type", table=table))
            body = body[: schema.start] + body[name.start :]
    return body


def _names(token: Token, name: str) -> bool:
    return token.text == name and token.token_type is not TokenType.STRING


def _opens_cte(tokens: Sequence[Token], place: int) -> bool:
    after = tokens[place + 1 : place + 3]
    return len(after) == 2 and after[0].token_type is TokenType.ALIAS and after[1].token_type is TokenType.L_PAREN
