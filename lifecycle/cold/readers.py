"""Which views read cold months, which of their columns, and who stands in a month's way.

A view reads cold months unless each SELECT of it that reads the table keeps to younger rows (views/lookback.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lifecycle.archive.readers import FUNCTION, TRIGGER, Reader, readers_without
from lifecycle.cold.elsewhere import ColdRows, read_cold_rows
from lifecycle.cold.tables import ColdTable
from lifecycle.database import Connection
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from lifecycle.views.archived import readers_of, why_blind
from lifecycle.views.catalog import read_view
from lifecycle.views.definition import cut_definition
from lifecycle.views.seam import own_definition, tables_read


@dataclass(frozen=True)
class ColdReader:
    """A view that reads the table itself, with the columns that it reads.

    `far`: of cold months, too; `sees`: it can.
    """

    view: QualifiedName
    columns: tuple[str, ...]
    far: bool
    sees: bool


def cold_readers(conn: Connection, cold: ColdRows) -> tuple[ColdReader, ...]:
    """Every view and materialized view that reads the table itself."""
    return tuple(_reader(conn, name, cold) for name in readers_of(conn, cold.table))


def _reader(conn: Connection, name: QualifiedName, cold: ColdRows) -> ColdReader:
    with conn.transaction(force_rollback=True):
        conn.execute("set local search_path = ''")
        view, read = read_view(conn, name), tables_read(conn, name)
    if view is None or cold.table not in read:  # dropped at this moment
        return ColdReader(name, (), far=False, sees=False)
    own = own_definition(cut_definition(view.readable) or view.readable)
    # One that sees them names the table without its schema, inside.
    sees = set(cold.relations) <= read.keys()
    columns = read[cold.table].columns_in(own, cold.fewest_columns)
    return ColdReader(name, columns, far=sees or cold.concerns(own), sees=sees)


def columns_wanted(readers: tuple[ColdReader, ...]) -> frozenset[str]:
    """What views read of cold months, together."""
    return frozenset(column for reader in readers if reader.far for column in reader.columns)


def without_cold_rows(conn: Connection, cold: ColdRows, managed_schemas: tuple[str, ...] = ()) -> tuple[Reader, ...]:
    """Views, views upon them, policies and functions that would answer otherwise without the rows of cold months."""
    passed_by = [reader.view for reader in cold_readers(conn, cold) if not reader.far]
    found = readers_without(conn, cold.table, cold.relations[0], passed_by, managed_schemas)
    # Rows that leave with their partition fire no trigger.
    return tuple(reader for reader in found if reader.kind != TRIGGER)


def require_readers_see_cold_rows(conn: Connection, table: ColdTable) -> None:
    """RefusedError, which names them, when something would answer otherwise and nobody accepted that.

    Functions are named by the plan and stand in nobody's way: that one names the table says little of what it answers.
    """
    if found := list(readers_in_the_way(conn, read_cold_rows(conn, table))):
        told = ", ".join(found)
        raise RefusedError(
            f"{table.relation}: {len(found)} readers would answer otherwise without its cold months: {told}. Nothing "
            "was moved. Run `lifecycle migrate`, which lets views see them or says why not; or say "
            "accept_changed_views: true in event_tables.yaml, if that may be."
        )


def readers_in_the_way(conn: Connection, cold: ColdRows, managed_schemas: tuple[str, ...] = ()) -> Iterator[str]:
    """What stands in a month's way, with the reason where `lifecycle migrate` cannot help; nothing where accepted."""
    if cold.accepted:
        return
    names = {str(name): name for name in readers_of(conn, cold.table)}
    for reader in without_cold_rows(conn, cold, managed_schemas):
        if reader.kind == FUNCTION:
            continue
        why = None
        if reader.name in names and not reader.table:
            # The path goes back with it, also where a transaction is open already.
            with conn.transaction(force_rollback=True):
                why = why_blind(conn, names[reader.name], cold)
        yield f"{reader} ({why})" if why else str(reader)
