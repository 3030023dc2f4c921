"""Hot-query indexes: built once, politely, under whatever name; watched; what is superfluous is told."""

import re
import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import psycopg
import pytest
from typer.testing import CliRunner

from assets.indexes import KEY, hot_query_indexes_chosen, no_redundant_indexes
from lifecycle.database import Connection, connect, operation_lock, rows, value
from lifecycle.errors import AlreadyRunningError, BusyError
from lifecycle.indexes import build as building
from lifecycle.indexes.build import IndexBuild
from lifecycle.indexes.check import index_differences
from lifecycle.indexes.hot_queries import IndexState, IndexStatus
from lifecycle.indexes.hot_queries import index_statuses as statuses_of
from lifecycle.indexes.model import Index
from lifecycle.indexes.progress import Progress, no_progress, share_done
from lifecycle.indexes.redundant import RedundantIndexes
from lifecycle.indexes.redundant import redundant_indexes as found_redundant
from lifecycle.names import QualifiedName
from orchestration.cli.main import app
from orchestration.definitions import build_definitions
from resources.postgres import ApplicationDatabase
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.indexed import (
    HOT_QUERY_INDEXES,
    INDEXES,
    drop_index,
    fill_hot_tables,
    hot_index,
    index_valid,
    leave_invalid,
)

TRIGRAMS = "chat_sessions_title_trgm_idx"
CLICKED = "search_queries_clicked_idx"
HISTORY = "activity_interactions_account_type_created_idx"
VENDOR = "voucher_redemptions_vendor_member_idx"
PATTERN = "search_queries_query_pattern_idx"
# It has these two itself.
OF_THE_APPLICATION = {"generated_activities_chat_session_id_idx", "generated_activity_saves_account_id_idx"}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


UNUSED_AFTER_DAYS = APPLICATION.indexes.unused_after_days


def build_indexes(conn: Connection, indexes: Sequence[Index] = INDEXES, progress: Progress = no_progress) -> IndexBuild:
    return building.build_indexes(conn, indexes, progress)


def index_statuses(conn: Connection, indexes: Sequence[Index] = HOT_QUERY_INDEXES) -> tuple[IndexStatus, ...]:
    return statuses_of(conn, indexes)


def redundant_indexes(conn: Connection, now: datetime) -> RedundantIndexes:
    return found_redundant(conn, APPLICATION, now)


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


def states(conn: Connection) -> dict[str, IndexState]:
    return {status.index.name: status.state for status in index_statuses(conn)}


def test_every_index_is_built_marked_and_built_once(conn: Connection) -> None:
    for index in INDEXES:
        assert index_valid(conn, index.name), index.name
        comment = value(conn, "select obj_description(to_regclass(%s), 'pg_class')", (index.name,))
        assert comment == (None if index.name in OF_THE_APPLICATION else f"lifecycle: {index.reason}")
    assert build_indexes(conn) == IndexBuild((), ())
    kept = rows(conn, "select index_name, plan_before, built_at is null from lifecycle.index_plans")
    assert {name for name, _, _ in kept} == {index.name for index in HOT_QUERY_INDEXES}
    for _, plan, unfinished in kept:
        assert not unfinished
        assert "Scan" in plan
        assert not any(value in plan for value in ("'", "00000000", "kanazawa", "寺"))


@pytest.mark.parametrize(
    ("name", "other", "serves"),
    [
        (HISTORY, "create index other on {} (account_id, interaction_type, created_at desc)", True),
        (HISTORY, "create index other on {} (account_id desc, interaction_type desc, created_at nulls first)", False),
        (HISTORY, "create index other on {} (account_id desc, interaction_type desc, created_at nulls last)", True),
        (HISTORY, "create index other on {} (account_id, interaction_type, created_at desc, activity_id)", True),
        (HISTORY, "create index other on {} (account_id, interaction_type)", False),
        (HISTORY, "create index other on {} (account_id, interaction_type, created_at)", False),
        (CLICKED, "create index other on {} (clicked_result_id)", True),
        (CLICKED, "create index other on {} (clicked_result_id) where clicked_result_id is not null", True),
        (CLICKED, "create index other on {} (clicked_result_id) where results_count > 0", False),
        (CLICKED, "create index other on {} using hash (clicked_result_id)", False),
        (PATTERN, "create index other on {} (search_query)", False),
        (PATTERN, 'create index other on {} (search_query collate "POSIX" text_pattern_ops)', False),
        (TRIGRAMS, "create index other on {} using gin (title extensions.gin_trgm_ops)", True),
        (TRIGRAMS, "create index other on {} using gist (title extensions.gist_trgm_ops)", False),
        ("chat_sessions_title_characters_idx",
         "create index other on {} using gin (string_to_array(lower(title), null::text))", True),
    ],
)  # fmt: skip
def test_an_equivalent_index_under_another_name_serves(conn: Connection, name: str, other: str, serves: bool) -> None:
    index = hot_index(name)
    drop_index(conn, name)
    conn.execute(other.format(index.table).encode())
    assert build_indexes(conn).built == (() if serves else (name,))
    (status,) = index_statuses(conn, [index])
    assert (status.served_by, status.state.holds) == ("other" if serves else name, True)


def test_an_invalid_leftover_is_found_and_built_anew(url: str, conn: Connection) -> None:
    drop_index(conn, CLICKED)
    leave_invalid(url, f"create index concurrently {CLICKED} on search_queries (clicked_result_id)")
    assert index_valid(conn, CLICKED) is False
    assert states(conn)[CLICKED] is IndexState.invalid
    assert build_indexes(conn).built == (CLICKED,)
    assert index_valid(conn, CLICKED)
    assert "IS NOT NULL" in value(conn, "select pg_get_indexdef(to_regclass(%s))", (CLICKED,))


@pytest.mark.parametrize(
    "taken",
    [
        f"create index {CLICKED} on search_queries (results_count)",
        f"create index {CLICKED} on accounts (created_at)",
        f"create table {CLICKED} ()",
    ],
)
def test_a_name_that_is_taken_is_refused(conn: Connection, taken: str) -> None:
    drop_index(conn, CLICKED)
    conn.execute(taken.encode())
    drop_index(conn, VENDOR)
    build = build_indexes(conn)
    # The others are built.
    assert build.built == (VENDOR,)
    assert re.search(rf"public\.{CLICKED} exists and is not .*rename it", build.left_out[0])


def test_what_cannot_be_indexed_is_told_and_the_rest_is_built(conn: Connection) -> None:
    conn.execute("create table parted (a int) partition by range (a); create view seen as select 1 as a")
    conn.execute("create schema other; create table other.plain (a int)")

    def wanted(name: str, table: str, keys: str = "a", *, optional: bool = False) -> Index:
        return Index(name, QualifiedName.parse(table), keys, "none", optional=optional)

    build = build_indexes(
        conn,
        [
            wanted("parted_a_idx", "public.parted"),
            wanted("absent_a_idx", "public.absent"),
            wanted("seen_a_idx", "public.seen"),
            wanted("plain_b_idx", "other.plain", "b"),
            wanted("plain_a_idx", "other.plain"),
        ],
    )
    assert build.built == ("plain_a_idx",)
    assert [told.split(": ", 1)[1].split(",")[0].split(";")[0] for told in build.left_out] == [
        "public.parted is partitioned",
        "public.absent does not exist",
        "public.seen is no table",
        'other.plain: column "b" does not exist',
    ]
    assert value(conn, "select 'other.plain_a_idx'::regclass::text") == "other.plain_a_idx"


def test_declared_indexes_that_are_not_there_are_differences(conn: Connection) -> None:
    assert index_differences(conn, APPLICATION) == ()
    drop_index(conn, CLICKED)
    drop_index(conn, VENDOR)
    # One of the application's does the same.
    conn.execute("create index other on voucher_redemptions (vendor_member_id, scanned_at desc, id)")
    conn.execute("alter table reviews drop column account_id; drop table form_submissions cascade")
    found = {difference.name: difference.told for difference in index_differences(conn, APPLICATION)}
    assert found.keys() == {CLICKED, "reviews_account_id_idx", "form_submissions_account_id_idx"}
    assert found[CLICKED].startswith("is missing")
    assert found["reviews_account_id_idx"].startswith('public.reviews: column "account_id" does not exist')
    assert found["form_submissions_account_id_idx"] == "public.form_submissions does not exist"
    build = build_indexes(conn)
    assert (build.built, len(build.left_out)) == ((CLICKED,), 2)


def test_a_query_that_no_longer_fits_is_told(conn: Connection) -> None:
    conn.execute("alter table search_queries rename clicked_result_id to clicked")
    (status,) = index_statuses(conn, [hot_index(CLICKED)])
    assert (status.state, status.holds) == (IndexState.unfit, False)
    assert 'column "clicked_result_id" does not exist' in status.advice


def test_without_the_right_to_enable_the_extension_everything_else_is_built(conn: Connection) -> None:
    conn.execute("drop extension pg_trgm cascade")
    drop_index(conn, VENDOR)
    conn.execute(f"revoke create on database {conn.info.dbname} from postgres".encode())
    build = build_indexes(conn)
    assert build.built == (VENDOR,)
    (message,) = build.left_out
    for word in (TRIGRAMS, "permission denied", "Database > Extensions", "with schema", "lifecycle migrate"):
        assert word in message
    assert states(conn)[TRIGRAMS] is IndexState.no_extension
    finding = hot_query_indexes_chosen(index_statuses(conn))
    assert not finding.passed
    assert "Database > Extensions" in finding.description
    conn.execute(f"grant create on database {conn.info.dbname} to postgres".encode())
    assert build_indexes(conn) == IndexBuild((TRIGRAMS,), ())


@pytest.mark.one_server
def test_the_command_line_says_what_was_left_out(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    conn.execute("drop extension pg_trgm cascade; alter schema extensions rename to add_ons")
    monkeypatch.setenv(URL_VARIABLE, url)
    result = CliRunner().invoke(app, ["migrate"])
    assert result.exit_code == 0
    assert f"index {TRIGRAMS} is not built" in result.output
    conn.execute("create extension pg_trgm with schema add_ons")
    assert f"index {TRIGRAMS}: built" in CliRunner().invoke(app, ["migrate"]).output
    assert "add_ons.gin_trgm_ops" in value(conn, "select pg_get_indexdef(to_regclass(%s))", (TRIGRAMS,))


def test_a_long_transaction_is_waited_for_and_nobody_waits_behind(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_index(conn, CLICKED)
    monkeypatch.setattr("lifecycle.indexes.progress.PAUSE_SECONDS", 0.05)
    told, waiting = [], threading.Event()

    def progress(message: str, _fraction: float) -> None:
        told.append(message)
        if f"(pid {holder.info.backend_pid}, report)" in message:
            waiting.set()

    with connect(url, application_name="report") as holder, connect(url) as writer:
        holder.execute("begin; insert into search_queries (search_query) values ('held')")
        building = threading.Thread(target=build_indexes, args=(conn, HOT_QUERY_INDEXES, progress))
        building.start()
        assert waiting.wait(20), told
        writer.execute("set lock_timeout = '1s'")
        writer.execute("insert into search_queries (search_query, clicked_result_id) values ('x', gen_random_uuid())")
        holder.execute("commit")
        building.join(20)
        assert index_valid(writer, CLICKED)
    assert told[-1] == f"{CLICKED}: built"


def test_patience_ends_in_a_busy_error_and_the_next_run_cleans_up(
    url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop_index(conn, CLICKED)
    monkeypatch.setattr(building, "PATIENCE", "300ms")
    with connect(url) as holder:
        holder.execute("begin; insert into search_queries (search_query) values ('held')")
        with pytest.raises(BusyError, match=f"index {CLICKED} on public.search_queries: not finished within 300ms"):
            build_indexes(conn)
    assert index_valid(conn, CLICKED) is False
    assert value(conn, "select built_at from lifecycle.index_plans where index_name = %s", (CLICKED,)) is None
    assert build_indexes(conn).built == (CLICKED,)
    with connect(url) as other, operation_lock(other, "indexes"), pytest.raises(AlreadyRunningError):
        build_indexes(conn)


def test_progress_only_grows() -> None:
    phases = (
        ("initializing", 1),
        ("building index: scanning table", 0.5),
        ("building index: loading tuples in tree", 1),
        ("index validation: scanning index", 0.1),
        ("waiting for old snapshots", 0.5),
    )
    shares = [share_done(phase, within) for phase, within in phases]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


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


def test_a_locked_table_is_a_busy_error(url: str, conn: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifecycle.indexes.hot_queries.LOCK_TIMEOUT", "set local lock_timeout = '100ms'")
    with connect(url) as holder:
        holder.execute("begin; lock table search_queries in access exclusive mode")
        with pytest.raises(BusyError, match="search_queries is locked"):
            index_statuses(conn)


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
    assert "activity_interactions_account_id_created_at_idx" in line
    assert line.count(HISTORY) == 2


def test_a_build_leaves_no_copy_transaction_or_setting_behind(conn: Connection) -> None:
    build_indexes(conn)
    assert conn.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    assert value(conn, "show lock_timeout") == "0"
    assert value(conn, "select count(*) from pg_class where relpersistence = 't'") == 0
