"""Any asset with a table as a pandas DataFrame: `defs.load_asset_value(["public", "orders_by_day"])`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg
import pandas as pd
from pydantic import Field
from sqlalchemy import Column, Connection, Date, MetaData, Table, create_engine, select
from sqlalchemy.pool import NullPool

from lifecycle.database import sqlalchemy_url
from lifecycle.errors import RefusedError
from lifecycle.names import QualifiedName
from resources.variables import URL_EXAMPLE, missing_url

CHUNK_ROWS: Final = 50_000


class DataFrames(dg.ConfigurableIOManager):
    """Reads the table of an asset, which its metadata name (`dagster/table_name`); assets write theirs themselves.

    Rows arrive in chunks through a server-side cursor, and more than `most_rows` are refused.
    """

    url: str = Field(repr=False, description=f"PostgreSQL URL of a role that may read the views, e.g. {URL_EXAMPLE}")
    most_rows: int = Field(default=1_000_000, description="refuse to load more rows than this")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ARG002 - the name is Dagster's
        """Refuses: the assets write in the database, and nothing else is theirs to store."""
        raise RefusedError(f"{context.asset_key.to_user_string()} writes its own table; its step returns no value")

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The asset's rows; `{"columns": [...]}` as metadata of the input chooses columns.

        Raises dg.Failure when no URL is set, and RefusedError when there are more than `most_rows` rows, or no such
        columns; no table has partitions here.
        """
        if not self.url:
            raise dg.Failure(missing_url(), allow_retries=False)
        assert context.upstream_output is not None  # noqa: S101 - Dagster always gives it for an asset
        definition = context.upstream_output.definition_metadata
        relation = QualifiedName.parse(str(definition["dagster/table_name"]))
        columns = (context.definition_metadata or {}).get("columns")
        with self._session() as conn:
            table = Table(relation.name, MetaData(schema=relation.schema), autoload_with=conn)
            chosen = self._chosen(table, columns) if columns else list(table.c)
            query = select(*chosen).limit(self.most_rows + 1)
            if context.has_asset_partitions:
                raise RefusedError(f"{table} has no partitions; load it without a partition key")
            dates = [column.name for column in chosen if isinstance(column.type, Date)]
            frames = list(
                pd.read_sql(query, conn, chunksize=CHUNK_ROWS, parse_dates=dates, dtype_backend="numpy_nullable")
            )
        if sum(map(len, frames)) > self.most_rows:
            raise RefusedError(
                f"{relation} has more than {self.most_rows:,} rows here; load some columns, or "
                "raise most_rows of the resource dataframes"
            )
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[c.name for c in chosen])

    @staticmethod
    def _chosen(table: Table, columns: list[str]) -> list[Column[Any]]:
        if unknown := [column for column in columns if column not in table.c]:
            raise RefusedError(f"{table} has no {', '.join(unknown)}; it has {', '.join(table.c.keys())}")
        return [table.c[column] for column in columns]

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        engine = create_engine(
            sqlalchemy_url(self.url),
            poolclass=NullPool,
            connect_args={"prepare_threshold": None, "application_name": "lifecycle analyst"},
        )
        with engine.connect() as conn:
            conn.exec_driver_sql("set transaction read only")
            conn.exec_driver_sql("set local timezone = 'UTC'")
            yield conn.execution_options(stream_results=True, max_row_buffer=CHUNK_ROWS)
        engine.dispose()
