"""Hot-query indexes: built once, under whatever name they serve; what cannot be built is told and the rest is built."""

import re

import pytest
from typer.testing import CliRunner

from assets.indexes import hot_query_indexes_chosen
from lifecycle.database import Connection, rows, value
from lifecycle.indexes.build import IndexBuild
from lifecycle.indexes.check import index_differences
from lifecycle.indexes.hot_queries import IndexState
from lifecycle.indexes.model import Index
from lifecycle.names import QualifiedName
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.indexed import (
    CLICKED,
    HISTORY,
    HOT_QUERY_INDEXES,
    INDEXES,
    PATTERN,
    TRIGRAMS,
    VENDOR,
    build_indexes,
    drop_index,
    hot_index,
    index_statuses,
    index_valid,
    leave_invalid,
    states,
)

# It has these two itself.
OF_THE_APPLICATION = {"generated_activities_chat_session_id_idx", "generated_activity_saves_account_id_idx"}


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(rows=False, migrated=True)


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
