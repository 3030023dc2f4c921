"""Columns whose value depends on the order in which rows happen to be read: the same rows, another answer.

They are compared with nothing: a difference in them says nothing about the rows.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from sqlglot import exp
from sqlglot.lineage import lineage

from lifecycle.views.definition import DIALECT, ViewColumn
from lifecycle.views.tree import Columns, qualified_tree

COLLECTING: Final = (exp.ArrayAgg, exp.GroupConcat, exp.JSONArrayAgg, exp.JSONObjectAgg, exp.JSONBObjectAgg)
COLLECTING_NAMES: Final = {"jsonb_agg", "json_agg", "jsonb_object_agg", "json_object_agg", "xmlagg"}
# Of equal rows any may come first.
PLACES: Final = (exp.RowNumber, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue, exp.Mode)
FLOATS: Final = ("double precision", "real")
SUMMING: Final = (exp.Sum, exp.Avg, exp.Stddev, exp.Variance, exp.StddevPop, exp.VariancePop)


def unstable_columns(definition: str, columns: Columns, shown: Sequence[ViewColumn]) -> tuple[str, ...]:
    """The names of such columns, in the view's order."""
    tree = qualified_tree(definition, columns)
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for name, held in columns.items():
        schema.setdefault(name.schema, {})[name.name] = dict(held)
    return tuple(
        column.name
        for column in shown
        if any(map(_is_unstable, _expressions(column.name, tree, schema)))
        or (column.type in FLOATS and any(each.find(*SUMMING) for each in _expressions(column.name, tree, schema)))
    )


def _expressions(column: str, tree: exp.Query, schema: dict[str, dict[str, dict[str, str]]]) -> Iterator[exp.Expr]:
    for node in lineage(column, tree.copy(), schema=schema, dialect=DIALECT).walk():
        yield node.expression


def _is_unstable(expression: exp.Expr) -> bool:
    for found in expression.find_all(exp.Func):
        name = found.name.lower() if isinstance(found, exp.Anonymous | exp.AnonymousAggFunc) else ""
        distinct = isinstance(found.this, exp.Distinct)
        ordered = isinstance(found.this, exp.Order) or isinstance(found.parent, exp.WithinGroup)
        if isinstance(found, exp.JSONObjectAgg | exp.JSONBObjectAgg) or name in {"jsonb_object_agg", "json_object_agg"}:
            return True  # of equal keys the last one stays
        if (isinstance(found, COLLECTING) or name in COLLECTING_NAMES) and not distinct and not ordered:
            return True
        if isinstance(found, PLACES) or name in {"mode", "lag", "lead", "row_number"}:
            return True
    return False
