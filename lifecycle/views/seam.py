"""Views over a table and its archive: rows that move change no figure.

Around its own definition a view gets a CTE of the table's name that holds the rows of both:

    WITH messages AS NOT MATERIALIZED (SELECT ... FROM public.messages m UNION ALL SELECT ... FROM public.archive a)
    SELECT <columns> FROM (<definition>) lifecycle_seam

The CTE has the columns that the definition reads and no others, so that it pins none of the application's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlglot.dialects.postgres import Postgres
from sqlglot.tokens import Token, TokenType

from lifecycle.archive.layout import Layout
from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName, quoted

MARK: Final = "lifecycle_seam"
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
    begin, end = text.find(f"{MARK}."), text.rfind(f") {MARK}")
    if begin < 0 or end < 0:
        return None
    return text[text.index("FROM (", begin) + len("FROM (") : end].strip()


def _unqualified(body: str, table: QualifiedName) -> str:
    """The text with `schema.table` as `table` alone, which then means the CTE."""
    tokens = Postgres.Tokenizer().tokenize(body)
    if any(_names(token, table.name) and _opens_cte(tokens, place) for place, token in enumerate(tokens)):
        raise RefusedError(f"it has a CTE named {table.name} itself")
    for place in range(len(tokens) - 3, -1, -1):
        schema, dot, name = tokens[place : place + 3]
        if _names(schema, table.schema) and dot.token_type is TokenType.DOT and _names(name, table.name):
            if place and tokens[place - 1].token_type is TokenType.DCOLON:
                raise RefusedError(f"it names {table} as a type")
            body = body[: schema.start] + body[name.start :]
    return body


def _names(token: Token, name: str) -> bool:
    return token.text == name and token.token_type is not TokenType.STRING


def _opens_cte(tokens: Sequence[Token], place: int) -> bool:
    after = tokens[place + 1 : place + 3]
    return len(after) == 2 and after[0].token_type is TokenType.ALIAS and after[1].token_type is TokenType.L_PAREN
