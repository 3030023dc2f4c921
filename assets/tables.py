"""Tables in the metadata of assets and checks."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg


def table_metadata(columns: Mapping[str, str], records: Iterable[Sequence[Any]]) -> dg.TableMetadataValue:
    """Rows as a table; `columns` says for each column its name and its type as Dagster shows it."""
    return dg.MetadataValue.table(
        [dg.TableRecord(dict(zip(columns, record, strict=True))) for record in records],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )
