"""Tables in the metadata of assets and checks; every column says what it holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

# Of each column its type as Dagster shows it, and what it holds.
Columns = Mapping[str, tuple[str, str]]


def table_schema(columns: Columns) -> dg.TableSchema:
    """Columns with their types and descriptions."""
    return dg.TableSchema(
        columns=[dg.TableColumn(name, kind, description=holds) for name, (kind, holds) in columns.items()]
    )


def table_metadata(columns: Columns, records: Iterable[Sequence[Any]]) -> dg.TableMetadataValue:
    """Rows as a table, their values in the order of `columns`."""
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, record, strict=True))) for record in records], schema=table_schema(columns)
    )


def markdown_table(heading: Sequence[str], records: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines of a table that the UI opens over the whole page: what has more columns than fit beside others."""
    for line in (heading, ["---"] * len(heading), *records):
        yield f"| {' | '.join(line)} |"
