"""What reading a view costs: it is run once, in a transaction that cannot write and that ends in time."""

import json
from dataclasses import dataclass
from typing import Any, Final

import psycopg
from psycopg import sql

from lifecycle.database import Connection, rows
from lifecycle.names import QualifiedName
from lifecycle.server_errors import first_line
from lifecycle.units import size_text

READ_ONLY: Final = "set transaction read only"
LIMIT: Final = "select set_config('statement_timeout', %s, true), set_config('lock_timeout', '1s', true)"
# Such a function may do anything once it is called, a transaction that cannot write or not.
VOLATILE: Final = """
with recursive read (relid) as (
    select to_regclass(%s)::oid
     union
    select c.oid from read join pg_rewrite w on w.ev_class = read.relid
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_class'::regclass
      join pg_class c on c.oid = d.refobjid and c.relkind = 'v'
)
select distinct p.oid::regprocedure::text from read join pg_rewrite w on w.ev_class = read.relid
  join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid and d.refclassid = 'pg_proc'::regclass
  join pg_proc p on p.oid = d.refobjid and p.provolatile = 'v' and p.pronamespace <> 'pg_catalog'::regnamespace
 order by 1
"""
PAGE: Final = 8192
# Reading less than this is no burden, whatever the view computes.
HEAVY: Final = 1_000_000


@dataclass(frozen=True)
class Cost:
    """What one reading took. `bytes` counts pages touched, those of temporary files included: unlike the time it is the
    same again. `refused` says why nobody knows; `cut_off`: it did not end within the seconds that it had."""

    name: QualifiedName
    seconds: float | None = None
    bytes: int | None = None
    rows: int | None = None
    cut_off: bool = False
    refused: str = ""

    @property
    def heavy(self) -> bool:
        return self.cut_off or (self.bytes or 0) >= HEAVY

    @property
    def told(self) -> str:
        """In powers of ten, so that the same database says the same again."""
        if self.cut_off:
            return "did not end in time"
        if not self.bytes:
            return "reads nothing"
        lower = 10 ** (len(str(self.bytes)) - 1)
        return f"reads {size_text(lower)} to {size_text(lower * 10)}"


def measure(conn: Connection, name: QualifiedName, seconds: float) -> Cost:
    """Run the view once, for so many seconds at most. Never raises for what the view does."""
    if found := rows(conn, VOLATILE, (str(name),)):
        return Cost(name, refused=f"calls {found[0][0]}, which may do more than read")
    statement = sql.SQL("explain (analyze, buffers, timing off, format json) select * from {}").format(name.identifier)
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(READ_ONLY)
            conn.execute(LIMIT, (f"{round(seconds * 1000)}ms",))
            row = conn.execute(statement).fetchone()
    except psycopg.errors.QueryCanceled:
        return Cost(name, cut_off=True)
    except psycopg.Error as error:
        return Cost(name, refused=first_line(error))
    return _read(name, row[0] if row else [])


def _read(name: QualifiedName, plan: Any) -> Cost:
    (told,) = json.loads(plan) if isinstance(plan, str) else plan
    top = told["Plan"]
    kinds = ("Shared Hit", "Shared Read", "Temp Read", "Temp Written")
    pages = sum(top.get(f"{kind} Blocks", 0) for kind in kinds)
    return Cost(name, told["Execution Time"] / 1000, pages * PAGE, top["Actual Rows"])
