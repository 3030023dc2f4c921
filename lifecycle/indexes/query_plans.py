"""What the planner would do with a statement, as one line that holds no value of a row."""

from dataclasses import dataclass
from typing import Any

from psycopg import sql

from lifecycle.database import Connection


@dataclass(frozen=True)
class QueryPlan:
    """The plan's steps from the outermost inwards, its cost, the rows it expects and the indexes it reads."""

    steps: tuple[str, ...]
    cost: float
    rows: int
    indexes: frozenset[str]

    @property
    def text(self) -> str:
        return f"{' > '.join(self.steps)}; cost {self.cost:,.0f}, {self.rows:,} rows"


def explain(conn: Connection, statement: sql.Composable) -> QueryPlan:
    """Ask for the plan without running the statement."""
    row = conn.execute(sql.SQL("explain (format json) ") + statement).fetchone()
    assert row is not None  # noqa: S101 - EXPLAIN always answers
    top: dict[str, Any] = row[0][0]["Plan"]
    nodes = _nodes(top)
    steps = tuple(
        " on ".join([node["Node Type"], *(node[name] for name in ("Index Name", "Relation Name") if name in node)][:2])
        for node in nodes
    )
    indexes = frozenset(node["Index Name"] for node in nodes if "Index Name" in node)
    return QueryPlan(steps, top["Total Cost"], round(top["Plan Rows"]), indexes)


def _nodes(node: dict[str, Any]) -> list[dict[str, Any]]:
    return [node, *(below for child in node.get("Plans", ()) for below in _nodes(child))]
