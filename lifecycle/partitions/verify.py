"""Counts and checksums of the copies against the old table, in one snapshot while writers go on."""

from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import sql

from lifecycle.database import Connection, connect_directly
from lifecycle.errors import VerificationError
from lifecycle.partitions.capture import Target
from lifecycle.partitions.catalog import Names, TableStructure

# Rows and checksum.
Figures = tuple[int, int]
HASHABLE = "select hash_record_extended(row(null::{}), 0)"


def _fingerprint(conn: Connection, old: TableStructure, alias: str) -> sql.Composable:
    """One row as a 64-bit hash; types without a hash function go through their text.

    The hash of a row adds up those of its columns, so a sum over rows would not notice two of them that exchanged a
    value; hashed once more, it does.
    """
    values: list[sql.Composable] = []
    for column in old.columns:
        name = sql.SQL(alias + ".") + sql.Identifier(column.name)
        try:
            with conn.transaction():
                conn.execute(sql.SQL(HASHABLE).format(sql.SQL(column.type)))
        except psycopg.errors.UndefinedFunction:
            name = sql.SQL("{}::text").format(name)
        values.append(name)
    return sql.SQL("hashint8extended(hash_record_extended(row({}), 0), 0)").format(sql.SQL(", ").join(values))


def _settled(names: Names, old: TableStructure, alias: str) -> sql.Composable:
    """Rows whose key waits in the capture table differ for now; they are left out on both sides."""
    return sql.SQL("not exists (select from {} c where {})").format(
        names.capture,
        sql.SQL(" and ").join(
            sql.SQL("c.{0} = {1}.{0}").format(sql.Identifier(column), sql.SQL(alias))
            for column in old.new_key(names.table.time_column)
        ),
    )


def _figures(url: str, snapshot: str, query: sql.Composed) -> dict[int, Figures]:
    """Rows (bucket, count, checksum) of a query run in an exported snapshot."""
    with connect_directly(url, application_name="lifecycle verify") as conn, conn.transaction():
        conn.execute("set transaction isolation level repeatable read read only")
        conn.execute(sql.SQL("set transaction snapshot {}").format(sql.Literal(snapshot)))
        # The planner expects a group for each row and would sort whole rows on disk; there are as many as partitions.
        conn.execute("set local enable_sort = off")
        return {row[0]: (row[1], row[2]) for row in conn.execute(query).fetchall() if row[1]}


def _by_target(buckets: dict[int, Figures], targets: list[Target]) -> dict[int, Figures]:
    """Figures by position of the target instead of by bucket; what lies before and behind all is the default's."""
    positions = {position: target for position, target in enumerate(targets) if not target.is_default}
    default = len(targets) - 1
    open_below = targets[0].lower is None and not targets[0].is_default
    expected: dict[int, Figures] = {}
    for bucket, (count, checksum) in buckets.items():
        position = bucket if open_below else bucket - 1
        if position not in positions:
            position = default
        known = expected.get(position, (0, 0))
        expected[position] = (known[0] + count, known[1] + checksum)
    return expected


def verify_copies(conn: Connection, url: str, names: Names, old: TableStructure, targets: list[Target]) -> int:
    """Compare each new partition with its source rows; returns the rows compared.

    Both sides are read at once in the same snapshot. Raises VerificationError naming the partitions that differ.
    """
    fingerprint = _fingerprint(conn, old, "t")
    settled = _settled(names, old, "t")
    ranges = [target for target in targets if not target.is_default]
    edges = sql.SQL(", ").join(sql.Literal(edge) for edge in [*(t.lower for t in ranges if t.lower), ranges[-1].upper])
    # Buckets count from the first edge up: 0 lies before it, the last behind all months.
    source = sql.SQL(
        "select width_bucket(t.{}::timestamptz, array[{}]::timestamptz[]), count(*), sum({}) from only {} t"
        " where {} group by 1"
    ).format(names.time_column, edges, fingerprint, names.legacy, settled)
    copies = sql.SQL(" union all ").join(
        sql.SQL("select {}::int, count(*), sum({}) from {} t where {}").format(
            sql.Literal(position), fingerprint, names.partition(target.name), settled
        )
        for position, target in enumerate(targets)
    )
    with conn.transaction(), ThreadPoolExecutor(2) as pool:
        conn.execute("set transaction isolation level repeatable read read only")
        snapshot = conn.execute("select pg_export_snapshot()").fetchone()
        assert snapshot is not None  # noqa: S101 - a SELECT of a function returns one row
        both = [pool.submit(_figures, url, snapshot[0], query) for query in (source, copies)]
        by_bucket, found = (future.result() for future in both)
    expected = _by_target(by_bucket, targets)
    wrong = [
        f"{target.name}: {found.get(position, (0, 0))[0]:,} rows of {expected.get(position, (0, 0))[0]:,}"
        for position, target in enumerate(targets)
        if expected.get(position) != found.get(position)
    ]
    if wrong:
        raise VerificationError(
            f"{names.table.qualified_name}: copies differ from their source in {'; '.join(wrong)}. The application "
            "goes on with the old partition. Drop the named tables in schema event_partitions, then convert again."
        )
    return sum(count for count, _ in expected.values())
