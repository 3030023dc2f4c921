"""Hot-query indexes, watched: whether the planner chooses each, which indexes are superfluous, and the asset's run."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from assets.indexes import KEY, hot_query_indexes_chosen, no_redundant_indexes
from lifecycle.database import Connection
from lifecycle.indexes.hot_queries import IndexState
from lifecycle.indexes.model import Index
from lifecycle.names import QualifiedName
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.indexed import (
    CLICKED,
    HISTORY,
    HOT_QUERY_INDEXES,
    TRIGRAMS,
    VENDOR,
    drop_index,
    fill_hot_tables,
    hot_index,
    index_statuses,
    index_valid,
    redundant_indexes,
    states,
)

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
UNUSED_AFTER_DAYS = APPLICATION.indexes.unused_after_days


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def test_a_query_that_no_longer_fits_is_told(conn: Connection) -> None:
    conn.execute("alter table search_queries rename clicked_result_id to clicked")
    (status,) = index_statuses(conn, [hot_index(CLICKED)])
    assert (status.state, status.holds) == (IndexState.unfit, False)
    assert 'column "clicked_result_id" does not exist' in status.advice


@pytest.fixture
def filled(conn: Connection) -> Connection:
    fill_hot_tables(conn)
    return conn


def test_on_representative_statistics_every_index_is_chosen_until_it_is_not(filled: Connection) -> None:
    assert set(states(filled).values()) == {IndexState.chosen}
    drop_index(filled, HISTORY)
    assert states(filled)[HISTORY] is IndexState.missing
    for setting in ("enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"):
        filled.execute(f"set {setting} = off".encode())
    assert states(filled)[VENDOR] is IndexState.not_chosen
    finding = hot_query_indexes_chosen(index_statuses(filled))
    assert not finding.passed
    assert f"{HISTORY} on public.activity_interactions: missing; run the job" in finding.description
    assert "not chosen by the planner, which prefers: Limit > Sort > " in finding.description


def test_an_empty_database_is_too_small_to_tell(conn: Connection) -> None:
    assert set(states(conn).values()) <= {IndexState.usable, IndexState.chosen}
    assert hot_query_indexes_chosen(index_statuses(conn)).passed
    broken = Index(
        "search_queries_source_idx",
        QualifiedName("public", "search_queries"),
        "search_source",
        "none",
        query=hot_index(CLICKED).query,
    )
    conn.execute("create index search_queries_source_idx on search_queries (search_source)")
    (status,) = index_statuses(conn, [broken])
    assert status.state is IndexState.unusable


def test_superfluous_and_unread_indexes_are_told_and_stay(conn: Connection) -> None:
    now = datetime.now(UTC)
    before = redundant_indexes(conn, now)
    # The application's own: its unique indexes begin with the same column.
    own = {
        ("vendor_members_vendor_id_idx", "vendor_members_vendor_id_account_id_key"),
        ("vouchers_voucher_code_idx", "vouchers_voucher_code_key"),
    }
    assert {(one.name, one.covered_by) for one in before.duplicates} == own
    conn.execute(
        "create index prefix_idx on search_queries (account_id);"
        "create index same_idx on search_queries (search_query, searched_at desc);"
        "create index longer_idx on chat_sessions using gin (title extensions.gin_trgm_ops);"
        "create index partial_idx on search_queries (account_id) where results_count = 0;"
        "create unique index unique_idx on search_queries (id, account_id)"
    )
    found = redundant_indexes(conn, now)
    assert {(one.name, one.covered_by) for one in found.duplicates} == {
        ("prefix_idx", "search_queries_account_id_idx"),
        ("same_idx", "search_queries_query_idx"),
        ("longer_idx", TRIGRAMS),
        *own,
    }
    unused = {one.name for one in found.unused}
    assert {"prefix_idx", "search_queries_query_idx"} <= unused
    assert not {"unique_idx", "search_queries_pkey", VENDOR} & unused
    finding = no_redundant_indexes(found)
    assert not finding.passed
    assert "prefix_idx (beside search_queries_account_id_idx)" in finding.description
    assert "never read" not in finding.description
    later = redundant_indexes(conn, found.counted_since + timedelta(days=UNUSED_AFTER_DAYS))
    assert f"never read in {UNUSED_AFTER_DAYS} days" in no_redundant_indexes(later).description
    assert index_valid(conn, "prefix_idx")


@pytest.mark.one_server
@pytest.mark.every_version
def test_a_run_builds_describes_and_checks(url: str, conn: Connection, instance: dg.DagsterInstance) -> None:
    fill_hot_tables(conn)
    drop_index(conn, HISTORY)
    job = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def("build_hot_query_indexes")
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=QUIET)
    assert result.success
    evaluations = {found.check_name: found for found in result.get_asset_check_evaluations()}
    assert evaluations["hot_query_indexes_chosen"].passed
    redundant = evaluations["no_redundant_indexes"]
    assert (redundant.passed, redundant.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert redundant.metadata["duplicates"].value == 2
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert (metadata["built"].value, metadata["built_names"].value) == (1, HISTORY)
    assert metadata["chosen"].value == len(HOT_QUERY_INDEXES)
    (line,) = [line for line in str(metadata["status"].value).splitlines() if f"`{HISTORY}`" in line.split("|")[1]]
    assert "chosen by the planner" in line
    plans = str(metadata["plans"].value).partition(f"- `{HISTORY}`: ")[2].splitlines()
    assert "activity_interactions_account_id_created_at_idx" in plans[1]
    assert HISTORY in plans[2]
