"""How the hot-query indexes stand: there and valid, chosen for their query, how large, how often used."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import psycopg

from lifecycle.database import Connection, rows
from lifecycle.errors import BusyError
from lifecycle.indexes.catalog import (
    UnfitError,
    explained,
    fits_its_query,
    on_empty_copy,
    require_table,
    serving,
    what_has_the_name,
)
from lifecycle.indexes.extensions import EXTENSIONS_SCHEMA, extension_schema, missing_extension
from lifecycle.indexes.model import REPRESENTATIVE_ROWS, Index
from lifecycle.indexes.query_plans import QueryPlan

LOCK_TIMEOUT: Final = "set local lock_timeout = '5s'"
FIGURES: Final = """
select pg_relation_size(i.indexrelid), coalesce(s.idx_scan, 0)::bigint
  from pg_index i left join pg_stat_all_indexes s using (indexrelid)
 where i.indexrelid = to_regclass(format('%%I.%%I', %s::text, %s::text))
"""
# Never vacuumed or analyzed, the planner itself goes by the size of the file.
TABLE_ROWS: Final = """
select greatest(c.reltuples, s.n_live_tup, 0)::bigint
  from pg_class c left join pg_stat_all_tables s on s.relid = c.oid where c.oid = to_regclass(%s)
"""
PLAN_BEFORE: Final = """
select plan_before from lifecycle.index_plans where (schema_name, index_name) = (%s, %s) and built_at is not null
"""


class IndexState(Enum):
    """What can be said of an index; the value is how people read it."""

    chosen = "chosen by the planner"
    usable = "usable; the table is too small to tell more"
    unfit = "does not fit its table"
    no_extension = "its extension is not enabled"
    missing = "missing"
    invalid = "invalid, left by a broken build"
    unusable = "does not fit its query"
    not_chosen = "not chosen by the planner"

    @property
    def holds(self) -> bool:
        return self in (IndexState.chosen, IndexState.usable)


@dataclass(frozen=True)
class IndexStatus:
    """One index: `served_by` is the one that does its work, under whatever name; `scans` since statistics began."""

    index: Index
    state: IndexState
    served_by: str | None = None
    bytes: int = 0
    scans: int = 0
    table_rows: int = 0
    plan_before: str | None = None
    plan_now: str | None = None
    unfit: str | None = None

    @property
    def holds(self) -> bool:
        """Whether it is as it should be; one that is optional may have no table to be on."""
        return self.state.holds or (self.state is IndexState.unfit and self.index.optional)

    @property
    def advice(self) -> str:
        """What is wrong with it and what to do, for an index whose state does not hold."""
        told = f"{self.index.name} on {self.index.table}: {self.state.value}"
        if self.state is IndexState.no_extension:
            return f"{told}: {missing_extension(str(self.index.extension))}"
        if self.state is IndexState.unfit:
            return f"{told}: {self.unfit}"
        if self.state in (IndexState.missing, IndexState.invalid):
            return f"{told}; run the job build_hot_query_indexes"
        return f"{told}, which prefers: {self.plan_now}. Analyze the table; if it stays, change the index or the query"


def index_statuses(conn: Connection, indexes: Sequence[Index]) -> tuple[IndexStatus, ...]:
    """Ask catalog and planner about each index; changes nothing. Raises BusyError while a table is locked."""
    return tuple(_status(conn, index) for index in indexes)


def _status(conn: Connection, index: Index) -> IndexStatus:
    try:
        return _fitting_status(conn, index)
    except UnfitError as error:
        return IndexStatus(index, IndexState.unfit, unfit=str(error))


def _fitting_status(conn: Connection, index: Index) -> IndexStatus:
    require_table(conn, index)
    schema = extension_schema(conn, index.extension) if index.extension else EXTENSIONS_SCHEMA
    try:
        with conn.transaction():
            conn.execute(LOCK_TIMEOUT)
            plan = explained(conn, index)
            table_rows = rows(conn, TABLE_ROWS, (str(index.table),))[0][0]
            kept = rows(conn, PLAN_BEFORE, (index.table.schema, index.name))
            if schema is None:
                return IndexStatus(index, IndexState.no_extension, table_rows=table_rows, plan_now=plan.text)
            with on_empty_copy(conn, index, schema):
                names, alike = serving(conn, index), serving(conn, index, bytewise=True)
                fits = fits_its_query(conn, index)
            served_by = next((name for name in alike if name in plan.indexes), next(iter(names), None))
            size, scans = rows(conn, FIGURES, (index.table.schema, served_by))[0] if served_by else (0, 0)
            named, _ = what_has_the_name(conn, index)
    except psycopg.errors.LockNotAvailable as error:
        raise BusyError(f"{index.table} is locked; the state of its indexes is not known now") from error
    return IndexStatus(
        index,
        _judged(plan, named, names, alike, fits=fits, table_rows=table_rows),
        served_by,
        size,
        scans,
        table_rows,
        kept[0][0] if kept else None,
        plan.text,
    )


def _judged(
    plan: QueryPlan, named: str | None, names: Sequence[str], alike: Sequence[str], *, fits: bool, table_rows: int
) -> IndexState:
    if named == "invalid":
        return IndexState.invalid
    if not names:
        return IndexState.missing
    if plan.indexes & {*names, *alike}:
        return IndexState.chosen
    if not fits:
        return IndexState.unusable
    return IndexState.usable if table_rows < REPRESENTATIVE_ROWS else IndexState.not_chosen
