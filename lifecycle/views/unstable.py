"""Columns whose value depends on the order in which rows happen to be read: the same rows, another answer.

They are compared with nothing: a difference in them says nothing about the rows.
"""

from collections.abc import Sequence
from typing import Final

from sqlglot import exp
from sqlglot.lineage import lineage
from sqlglot.optimizer.scope import build_scope

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
    if not _is_unstable(tree) and not any(column.type in FLOATS for column in shown):
        return ()
    # All columns at once, of a tree that is qualified already: each for itself would be qualified once more.
    nodes = lineage(None, tree, schema={}, scope=build_scope(tree), dialect=DIALECT)
    return tuple(
        column.name
        for column in shown
        if any(_makes_unstable(node.expression, column) for node in nodes[column.name].walk())
    )


def _makes_unstable(expression: exp.Expr, column: ViewColumn) -> bool:
    return _is_unstable(expression) or (column.type in FLOATS and expression.find(*SUMMING) is not None)


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
