"""What an application that looks closely sees otherwise on a partitioned table. Everything else is as on a plain one.

A test makes the same observations on a plain table and on a converted one; what differs is this list, no more, no less.
"""

from collections.abc import Mapping
from typing import Final

OBSERVED: Final[Mapping[str, str]] = {
    "TG_TABLE_NAME, TG_TABLE_SCHEMA, TG_RELID in a row trigger": "those of the partition, in schema `event_partitions`;"
    " write the name where it is needed, or hand it over as an argument (TG_ARGV). Statement triggers see the table",
    "triggers of an UPDATE that moves rows to another month": "for each moved row BEFORE UPDATE, then the row triggers"
    " of DELETE and of INSERT instead of AFTER UPDATE; statement triggers are those of UPDATE",
    "an UPDATE of a row that somebody else moves to another month": "waits, then fails with SQLSTATE 40001; try again",
    "tableoid": "the partition",
    "ONLY before the table's name": "means no row, since the table itself holds none: leave the word out",
    "ctid": "unique within a partition only; use the key",
    "names in the error of a broken unique key": "table and constraint of the partition; the SQLSTATE is the same",
    "names in the error of a broken check": "the table is the partition; the constraint is named as before",
    "names in the error of a missing value": "the table is the partition",
    "names in the error of a broken foreign key": "the table is the partition; the constraint is named as before",
    "pg_relation_size() of the table": "0: its rows are in the partitions; add up `pg_partition_tree('the table')`",
}

DUMPED: Final = (
    "the table is `PARTITION BY RANGE` of its time column; its partitions stand in schema `event_partitions`, each"
    " attached to it with its indexes, marked by a comment, closed by row-level security",
    "storage parameters (`WITH (...)`) stand on the partitions; `FORCE ROW LEVEL SECURITY` on the table alone",
    "the primary key holds the time column",
    "`CLUSTER ON` is gone, which PostgreSQL does not keep for a partitioned table: `CLUSTER ... USING` an index",
    "publications of the table have `publish_via_partition_root`",
    "what somebody granted who had got it WITH GRANT OPTION is granted by the owner",
    "each partition has extended statistics of its own, like the table's",
)
