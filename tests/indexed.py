"""What the tests of indexes share: the declared ones by name, rows enough for the planner to choose, broken indexes."""

from collections.abc import Sequence
from datetime import datetime

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import Connection, connect, value
from lifecycle.indexes import build as building
from lifecycle.indexes.build import IndexBuild
from lifecycle.indexes.hot_queries import IndexState, IndexStatus
from lifecycle.indexes.hot_queries import index_statuses as statuses_of
from lifecycle.indexes.model import REPRESENTATIVE_ROWS, Index, declared_indexes, hot_query_indexes
from lifecycle.indexes.progress import Progress, no_progress
from lifecycle.indexes.redundant import RedundantIndexes
from lifecycle.indexes.redundant import redundant_indexes as found_redundant
from tests.declared import APPLICATION

INDEXES = declared_indexes(APPLICATION)
HOT_QUERY_INDEXES = hot_query_indexes(APPLICATION)
TRIGRAMS = "chat_sessions_title_trgm_idx"
CLICKED = "search_queries_clicked_idx"
HISTORY = "activity_interactions_account_type_created_idx"
VENDOR = "voucher_redemptions_vendor_member_idx"
PATTERN = "search_queries_query_pattern_idx"
MANY = 2 * REPRESENTATIVE_ROWS
FILL = (
    "insert into accounts (id) select lpad(to_hex(i), 32, '0')::uuid from generate_series(1, 500) i",
    "insert into activity_interactions (account_id, activity_slug, interaction_type, created_at)"
    " select lpad(to_hex(1 + i %% 500), 32, '0')::uuid, 'slug',"
    " (array['view', 'share', 'book', 'qr_scan'])[1 + i / 7 %% 4]::interaction_type, now() - i * interval '1 minute'"
    " from generate_series(1, %(many)s) i",
    "insert into search_queries (search_query, clicked_result_id, searched_at)"
    " select (array['kyoto ', '京都の', 'osaka ', '金沢'])[1 + i %% 4] || i %% 900,"
    " case when i %% 3 = 0 then lpad(to_hex(i %% 700), 32, '0')::uuid end, now() - i * interval '1 minute'"
    " from generate_series(1, %(many)s) i",
    "insert into chat_sessions (account_id, title, started_at)"
    " select lpad(to_hex(1 + i %% 500), 32, '0')::uuid,"
    " (array['京都の旅 ', 'weekend in Osaka ', '金沢の温泉宿 ', 'food tour '])[1 + i %% 4] || i,"
    " now() - i * interval '1 minute' from generate_series(1, %(many)s) i",
    "insert into form_submissions (id, email) values (lpad('1', 32, '0')::uuid, 'a@example.org')",
    "insert into vouchers (id, form_submission_id, voucher_code)"
    " select lpad(to_hex(i), 32, '0')::uuid, lpad('1', 32, '0')::uuid, i::text from generate_series(1, 5000) i",
    "insert into voucher_redemptions (voucher_id, vendor_member_id, scanned_at)"
    " select lpad(to_hex(1 + i %% 5000), 32, '0')::uuid, lpad(to_hex(i %% 400), 32, '0')::uuid,"
    " now() - i * interval '1 minute' from generate_series(1, %(many)s) i",
)


def hot_index(name: str) -> Index:
    """The declared hot-query index of this name."""
    return next(index for index in HOT_QUERY_INDEXES if index.name == name)


def fill_hot_tables(conn: Connection) -> None:
    """Rows enough in every table of a hot query, and statistics about them."""
    for statement in FILL:
        psycopg.ClientCursor(conn).execute(statement.encode(), {"many": MANY})
    conn.execute("vacuum (analyze)")


def drop_index(conn: Connection, name: str) -> None:
    conn.execute(sql.SQL("drop index {}").format(sql.Identifier(name)))


def index_valid(conn: Connection, name: str) -> bool | None:
    """Whether the index of schema public is valid; None when there is none."""
    found: bool | None = value(conn, "select indisvalid from pg_index where indexrelid = to_regclass(%s)", (name,))
    return found


def leave_invalid(url: str, statement: str) -> None:
    """Begin CREATE INDEX CONCURRENTLY and cancel it while it waits for an older transaction."""
    with connect(url) as holder, connect(url) as builder:
        holder.execute("begin isolation level repeatable read; select count(*) from accounts")
        builder.execute("set statement_timeout = '500ms'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            builder.execute(statement.encode())


def build_indexes(conn: Connection, indexes: Sequence[Index] = INDEXES, progress: Progress = no_progress) -> IndexBuild:
    """Build these; all that are declared unless named."""
    return building.build_indexes(conn, indexes, progress)


def index_statuses(conn: Connection, indexes: Sequence[Index] = HOT_QUERY_INDEXES) -> tuple[IndexStatus, ...]:
    """How these stand; all of hot queries unless named."""
    return statuses_of(conn, indexes)


def redundant_indexes(conn: Connection, now: datetime) -> RedundantIndexes:
    """What is superfluous, as the shipped declarations count it."""
    return found_redundant(conn, APPLICATION, now)


def states(conn: Connection) -> dict[str, IndexState]:
    """The state of each index of a hot query."""
    return {status.index.name: status.state for status in index_statuses(conn)}
