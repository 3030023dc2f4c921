"""Views over a table and other places where its rows stand: rows that move there change no figure.

Around its own definition a view gets a layer, a CTE of the table's name that holds the rows of all places:

    WITH messages AS NOT MATERIALIZED (SELECT ... FROM public.messages m UNION ALL SELECT ... FROM public.archive a)
    SELECT <columns> FROM (<definition>) lifecycle_seam

The CTE has the columns that the definition reads and no others, so that it pins none of the application's. A view of
two such tables has two layers, one around the other, so that each can be taken off by itself.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.tokens import Token, TokenType

from lifecycle.database import Connection, rows
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName, quoted
from lifecycle.views.definition import parse_definition

MARK: Final = "lifecycle_seam"
# PostgreSQL gives the same name to no two layers.
MARKED: Final = re.compile(f"{MARK}(_[0-9]+)?")
READS: Final = """
select n.nspname::text, c.relname::text, array(
           select a.attname::text from pg_attribute a
            where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
              and (a.attnum = any (array_agg(d.refobjsubid)) or 0 = all (array_agg(d.refobjsubid))) order by a.attnum),
       array(select a.attname::text from pg_attribute a
              where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum),
       0 < any (array_agg(d.refobjsubid))
  from pg_rewrite w
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
  join pg_class c on c.oid = d.refobjid and c.oid <> w.ev_class
  join pg_namespace n on n.oid = c.relnamespace
 where w.ev_class = %s::regclass group by n.nspname, c.oid, c.relname
"""


class Elsewhere(Protocol):
    """Where rows of a table stand beside it: in an archive, or in what is kept of cold months."""

    @property
    def table(self) -> QualifiedName: ...

    @property
    def relations(self) -> tuple[QualifiedName, ...]:
        """What a view reads beside the table."""

    @property
    def fingerprint(self) -> str:
        """Another one after any change of these relations that a view's text depends on."""

    @property
    def passed_by(self) -> QualifiedName | None:
        """A view of the table's own rows, which is to stay one."""

    @property
    def accepted(self) -> bool:
        """Whether somebody accepted that views lose these rows."""

    @property
    def missed(self) -> str:
        """What a view misses that reads the table alone, for people."""

    @property
    def fewest_columns(self) -> tuple[str, ...] | None:
        """What is read for a view that only counts rows; None where that is every column."""

    def selected(self, relation: QualifiedName, columns: Sequence[str]) -> str:
        """The rows of one of the relations, as SQL."""

    def concerns(self, definition: str) -> bool:
        """Whether a definition, every name with its schema, may read any of these rows."""

    def obstacle(self, definition: str, columns: Sequence[str]) -> str | None:
        """Why a view with this definition cannot read them in these columns; None where it can."""


@dataclass(frozen=True)
class Both:
    """A table and where else its rows stand in the eyes of one view: the columns that it reads."""

    elsewhere: Elsewhere
    columns: tuple[str, ...]

    @property
    def table(self) -> QualifiedName:
        return self.elsewhere.table

    def rows(self) -> str:
        """The rows of all of them, as SQL."""
        live = ", ".join(f"m.{quoted(name)}" for name in self.columns)
        others = (self.elsewhere.selected(relation, self.columns) for relation in self.elsewhere.relations)
        return " UNION ALL ".join([f"SELECT {live} FROM {self.table} m", *others])

    def obstacle(self, definition: str) -> str | None:
        """Why the view, by its definition, cannot read them all."""
        return self.elsewhere.obstacle(definition, self.columns)


def read_both(conn: Connection, view: QualifiedName, definition: str, places: Iterable[Elsewhere]) -> tuple[Both, ...]:
    """The tables that a view reads itself, not through views, and whose other rows it should read and does not."""
    read = tables_read(conn, view)
    own = own_definition(definition)
    return tuple(
        Both(place, read[place.table].columns_in(own, place.fewest_columns))
        for place in places
        if place.table in read and not set(place.relations) <= read.keys() and place.concerns(own)
    )


@dataclass(frozen=True)
class Read:
    """What a view reads of a relation itself; `named` is false where the catalog knows of no single column."""

    columns: tuple[str, ...]
    every: tuple[str, ...]
    named: bool

    def columns_in(self, definition: str, fewest: tuple[str, ...] | None) -> tuple[str, ...]:
        """The columns that the definition needs. PostgreSQL notes none for whole rows, nor where rows are counted."""
        if reads_whole_rows(definition):
            return self.every
        return self.columns if self.named or fewest is None else fewest


def tables_read(conn: Connection, view: QualifiedName) -> dict[QualifiedName, Read]:
    """The relations that a view reads itself."""
    return {
        QualifiedName(schema, name): Read(tuple(columns), tuple(every), named)
        for schema, name, columns, every, named in rows(conn, READS, (str(view),))
    }


def reads_whole_rows(definition: str) -> bool:
    """Whether a definition uses a row of something as one value: PostgreSQL prints it as e.*"""
    try:
        tree = parse_definition(definition)
    except RefusedError:
        return True
    return any(column.table and isinstance(column.this, exp.Star) for column in tree.find_all(exp.Column))


def over_both(definition: str, columns: Sequence[str], read: Sequence[Both]) -> str:
    """The definition over tables and their other rows, a layer each; RefusedError where the text has no room for it."""
    body = definition.strip().removesuffix(";")
    shown = ", ".join(f"{MARK}.{quoted(name)}" for name in columns)
    for both in read:
        body = _unqualified(body, both.table)
        body = f"WITH {quoted(both.table.name)} AS NOT MATERIALIZED ({both.rows()}) SELECT {shown} FROM ({body}) {MARK}"
    return body


@dataclass(frozen=True)
class _Layer:
    """Where in a text a layer stands under which name, and where in it the definition that it was laid around."""

    start: int
    body_start: int
    body_end: int
    end: int
    name: str


def own_definition(text: str) -> str:
    """The application's own definition inside all layers. It names the tables of the layers without their schema."""
    layers = _layers(text)
    return text[layers[-1].body_start : layers[-1].body_end].strip() if layers else text


def inner_definition(text: str, relation: QualifiedName) -> str | None:
    """The text without the layer that reads `relation`; None where it has none."""
    layers = _layers(text)
    for place, layer in enumerate(layers):
        if f" {relation} " in text[layer.start : layer.body_start]:
            behind = text[layer.end :]
            if not layer.start:
                # The order that stands behind: of the next layer then, or the application's own.
                after = layers[place + 1 : place + 2]
                behind = behind.replace(f"{layer.name}.", f"{after[0].name}.") if after else ""
            return f"{text[: layer.start]}{text[layer.body_start : layer.body_end].strip()}{behind}".strip()
    return None


def _layers(text: str) -> list[_Layer]:
    """The layers of a view's text, the outermost first."""
    found: list[_Layer] = []
    open_brackets: list[int] = []
    for token, follower in pairwise(Postgres.Tokenizer().tokenize(f"{text.rstrip().removesuffix(';')} ;")):
        if token.token_type is TokenType.L_PAREN:
            open_brackets.append(token.start)
        elif token.token_type is TokenType.R_PAREN:
            opened = open_brackets.pop()
            if MARKED.fullmatch(follower.text):
                start = open_brackets[-1] + 1 if open_brackets else 0
                found.append(_Layer(start, opened + 1, token.start, follower.end + 1, follower.text))
    return found[::-1]


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
