"""A view's own definition: read from the view, kept inside the view that answers from a table, cut out of it again.

The text of a kept view is

    SELECT <columns> FROM lifecycle.<kept table> UNION ALL
    SELECT <columns> FROM (<definition>) lifecycle_definition WHERE false

PostgreSQL drops the second branch while it plans, so a reader sees a scan of the table; but renames, DROP ... CASCADE,
privileges and pg_depend go on meaning the definition, and nothing beside the view has to remember it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lifecycle.errors import RefusedError
from lifecycle.language import Phrase
from lifecycle.names import QualifiedName, quoted

DIALECT: Final = "postgres"
MARK: Final = "lifecycle_definition"
TABLE: Final = "lifecycle_kept"


@dataclass(frozen=True)
class ViewColumn:
    """A column of a view: its name, its type as PostgreSQL prints it, and the built-in type that our table stores."""

    name: str
    type: str
    stored_as: str

    @property
    def read_back(self) -> str:
        """The column of our table as the view shows it."""
        column = f"{TABLE}.{quoted(self.name)}"
        return column if self.stored_as == self.type else f"{column}::{self.type}"


def parse_definition(text: str) -> exp.Query:
    """The definition as a tree; RefusedError when sqlglot cannot read it."""
    try:
        tree = sqlglot.parse_one(text.strip().removesuffix(";"), read=DIALECT)
    except SqlglotError as error:
        why = str(error).splitlines()[0]
        raise RefusedError(Phrase("the definition cannot be read: {error}", error=why)) from None
    if not isinstance(tree, exp.Query):
        raise RefusedError(Phrase("the definition is no query"))
    return tree


def order_over_outputs(definition: str, columns: Sequence[ViewColumn]) -> tuple[str, ...]:
    """The definition's ORDER BY, written over the view's own columns; empty when it has none.

    RefusedError when it orders by something that the view does not show.
    """
    tree = parse_definition(definition)
    order = tree.args.get("order")
    if order is None:
        return ()
    select = tree.find(exp.Select)
    assert select is not None  # noqa: S101 - every query has one
    shown: list[tuple[exp.Expression, str]] = [
        (item.unalias(), column.name) for item, column in zip(select.expressions, columns, strict=True)
    ]
    return tuple(_over_outputs(item, shown) for item in order.expressions)


def _over_outputs(item: exp.Expression, shown: list[tuple[exp.Expression, str]]) -> str:
    names = [name for _, name in shown]

    def replaced(node: exp.Expression) -> exp.Expression:
        for expression, name in shown:
            if node == expression:
                return exp.column(exp.to_identifier(name, quoted=True))
        return node

    term = item.this
    if isinstance(term, exp.Literal) and term.is_int:
        term = exp.column(exp.to_identifier(names[int(term.name) - 1], quoted=True))
    else:
        term = _outermost_replaced(term.copy(), replaced)
    if missing := [c.sql(DIALECT) for c in term.find_all(exp.Column) if c.table or c.name not in names]:
        raise RefusedError(Phrase("it orders by {column}, which is none of its columns", column=missing[0]))
    descending = bool(item.args.get("desc"))
    # PostgreSQL prints where nulls go only when that is not the direction's own default.
    nulls_first = bool(item.args.get("nulls_first"))
    nulls = "" if nulls_first == descending else (" NULLS FIRST" if nulls_first else " NULLS LAST")
    return f"{term.sql(DIALECT)}{' DESC' if descending else ''}{nulls}"


def _outermost_replaced(node: exp.Expression, replace: Callable[[exp.Expression], exp.Expression]) -> exp.Expression:
    made = replace(node)
    if made is not node:
        return made
    for key, value in list(node.args.items()):
        if isinstance(value, exp.Expression):
            node.set(key, _outermost_replaced(value, replace))
        elif isinstance(value, list):
            node.set(key, [_outermost_replaced(v, replace) if isinstance(v, exp.Expression) else v for v in value])
    return node


def kept_view(kept: QualifiedName, columns: Sequence[ViewColumn], definition: str, order: Sequence[str]) -> str:
    """The query of the view that answers from `kept`, its definition inside."""
    names = [quoted(column.name) for column in columns]
    ours = ", ".join(f"{column.read_back} AS {name}" for column, name in zip(columns, names, strict=True))
    theirs = ", ".join(f"{MARK}.{name}" for name in names)
    union = (
        f"SELECT {ours} FROM {kept} {TABLE} UNION ALL "
        f"SELECT {theirs} FROM ({definition.strip().removesuffix(';')}) {MARK} WHERE false"
    )
    if not order:
        return union
    outer = ", ".join(f"lifecycle_rows.{name}" for name in names)
    return f"SELECT {outer} FROM ({union}) lifecycle_rows ORDER BY {', '.join(order)}"


def cut_definition(view: str) -> str | None:
    """The definition inside a kept view, given what pg_get_viewdef prints of it; None for any other view."""
    end = view.rfind(f") {MARK}")
    begin = view.find("UNION ALL")
    if end < 0 or begin < 0 or f"{TABLE}" not in view[:begin]:
        return None
    begin = view.index("FROM (", begin) + len("FROM (")
    return view[begin:end].strip()
