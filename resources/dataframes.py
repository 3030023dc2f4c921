"""Any statistics asset as a pandas DataFrame: `defs.load_asset_value(["public", "daily_active_users"])`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import dagster as dg
import pandas as pd
from pydantic import Field
from sqlalchemy import Column, Connection, Date, MetaData, Select, Table, create_engine, select
from sqlalchemy.pool import NullPool

from lifecycle.database import sqlalchemy_url
from lifecycle.errors import RefusedError
from resources.variables import MISSING_URL, URL_EXAMPLE

CHUNK_ROWS: Final = 50_000


class DataFrames(dg.ConfigurableIOManager):
    """Reads the table of an asset, the partitions asked for only; assets write their tables themselves.

    The asset's metadata name the table (`dagster/table_name`) and, where it is partitioned, the column by which
    (`time_column`). Rows arrive in chunks through a server-side cursor, and more than `most_rows` are refused.
    """

    url: str = Field(description=f"PostgreSQL URL of a role that may read the statistics, e.g. {URL_EXAMPLE}")
    most_rows: int = Field(default=1_000_000, description="refuse to load more rows than this")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:  # noqa: ARG002 - the name is Dagster's
        """Refuses: the assets write in the database, and nothing else is theirs to store."""
        raise RefusedError(f"{context.asset_key.to_user_string()} writes its own table; its step returns no value")

    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        """The asset's rows; `{"columns": [...]}` as metadata of the input chooses columns.

        Raises dg.Failure when no URL is set, and RefusedError when there are more than `most_rows` rows, or no such
        columns or partitions.
        """
        if not self.url:
            raise dg.Failure(MISSING_URL, allow_retries=False)
        assert context.upstream_output is not None  # noqa: S101 - Dagster always gives it for an asset
        definition = context.upstream_output.definition_metadata
        schema, name = str(definition["dagster/table_name"]).split(".", 1)
        columns = (context.definition_metadata or {}).get("columns")
        with self._session() as conn:
            table = Table(name, MetaData(schema=schema), autoload_with=conn)
            chosen = self._chosen(table, columns) if columns else list(table.c)
            query = select(*chosen).limit(self.most_rows + 1)
            if context.has_asset_partitions:
                query = self._of_partitions(context, query, table, definition.get("time_column"))
            dates = [column.name for column in chosen if isinstance(column.type, Date)]
            frames = list(
                pd.read_sql(query, conn, chunksize=CHUNK_ROWS, parse_dates=dates, dtype_backend="numpy_nullable")
            )
        if sum(map(len, frames)) > self.most_rows:
            raise RefusedError(
                f"{schema}.{name} has more than {self.most_rows:,} rows here; load some partitions or some columns, or "
                "raise most_rows of the resource dataframes"
            )
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[c.name for c in chosen])

    @staticmethod
    def _chosen(table: Table, columns: list[str]) -> list[Column[Any]]:
        if unknown := [column for column in columns if column not in table.c]:
            raise RefusedError(f"{table} has no {', '.join(unknown)}; it has {', '.join(table.c.keys())}")
        return [table.c[column] for column in columns]

    @staticmethod
    def _of_partitions(
        context: dg.InputContext, query: Select[Any], table: Table, time_column: str | None
    ) -> Select[Any]:
        if time_column is None:
            raise RefusedError(f"{table} has no partitions; load it without a partition key")
        if not context.asset_partition_keys:
            raise RefusedError(f"{table} has no such partition; keys are UTC days up to today, such as 2026-11-20")
        window, column = context.asset_partitions_time_window, table.c[time_column]
        return query.where(column >= window.start, column < window.end).order_by(column)

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
