"""search_chat_titles: the rows of a plain ilike, short words by an index, as far as policies let the caller see."""

from collections.abc import Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle.database import Connection, connect, rows, value
from lifecycle.indexes.hot_queries import index_statuses
from lifecycle.migrating.migrate import upgrade
from sandbox.application import create_application_database, drop_database
from sandbox.server import Server
from tests.conftest import AsRole, MakeApplicationDb
from tests.declared import APPLICATION
from tests.indexed import HOT_QUERY_INDEXES, fill_hot_tables, hot_index

# Two writing systems, letters with two cases, full width, signs that LIKE and arrays know, a letter that grows.
LETTERS = "京都寺院の旅ｋＫaAbBäÄİß%_\\,{}\"' "
PLAIN = "select id from chat_sessions where title ilike %s order by started_at desc, id limit 50"
SEARCH = "select id from search_chat_titles(%s)"
MAKE = "insert into chat_sessions (account_id, title, started_at) select %s, t, now() from unnest(%s::text[]) t"
PERSON, OTHER = f"{1:032x}", f"{2:032x}"


def literal(words: str) -> str:
    """The pattern for ilike that means these words and nothing else."""
    return "%" + "".join(f"\\{c}" if c in "\\%_" else c for c in words) + "%"


@pytest.fixture(scope="module", params=[pytest.param("C", marks=pytest.mark.every_version), "C.UTF-8"])
def titles(request: pytest.FixtureRequest, server: Server) -> Iterator[Connection]:
    """A migrated database of each locale, without rows, with the indexes forced upon the planner."""
    name = f"titles_{'c' if request.param == 'C' else 'utf8'}"
    try:
        url = create_application_database(server, name, locale=request.param)
    except psycopg.errors.WrongObjectType:
        pytest.skip(f"the platform has no locale {request.param}")
    upgrade(url, APPLICATION)
    with connect(url) as conn:
        conn.execute("insert into accounts (id) values (%s), (%s)", (PERSON, OTHER))
        conn.execute("set enable_seqscan = off; set enable_indexscan = off")
        yield conn
    drop_database(server, name)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    written=st.lists(st.text(LETTERS, max_size=8), min_size=1, max_size=12),
    words=st.text(LETTERS, max_size=4),
    part=st.tuples(st.integers(0, 11), st.integers(0, 8), st.integers(0, 4)),
)
def test_it_finds_what_a_plain_ilike_finds(
    titles: Connection, written: list[str], words: str, part: tuple[int, int, int]
) -> None:
    where, start, length = part
    within = written[where % len(written)][start : start + length]
    with titles.transaction(force_rollback=True):
        titles.execute(MAKE, (PERSON, written))
        for sought in (words, within, within.swapcase()):
            assert rows(titles, SEARCH, (sought,)) == rows(titles, PLAIN, (literal(sought),)), sought


def test_titles_that_are_missing_and_words_that_are(titles: Connection) -> None:
    with titles.transaction(force_rollback=True):
        titles.execute(MAKE, (PERSON, ["", "京都"]))
        assert rows(titles, "select title from search_chat_titles('京都')") == [("京都",)]
        assert len(rows(titles, SEARCH, ("",))) == 2
        assert rows(titles, SEARCH, (None,)) == []


def test_newest_first_and_no_more_than_asked_for(titles: Connection) -> None:
    with titles.transaction(force_rollback=True):
        titles.execute(
            "insert into chat_sessions (account_id, title, started_at)"
            " select %s, '京都 ' || i, now() - i * interval '1 hour' from generate_series(1, 60) i",
            (PERSON,),
        )
        assert rows(titles, "select title from search_chat_titles('京都', 2)") == [("京都 1",), ("京都 2",)]
        counts = [
            value(titles, "select count(*) from search_chat_titles('京都', %s)", (n,)) for n in (None, 0, -1, 100)
        ]
        assert counts == [50, 0, 0, 60]


@pytest.mark.parametrize(
    "word",
    [
        pytest.param("寺院", marks=pytest.mark.every_version),
        "寺",
        pytest.param("鯖江", marks=pytest.mark.every_version),
    ],
)
def test_a_short_word_is_found_by_the_index_over_characters(make_application_db: MakeApplicationDb, word: str) -> None:
    """Read from the index's own counter: the plan of a function's statement is not shown."""
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        fill_hot_tables(conn)
        conn.execute("update chat_sessions set title = '鯖江の寺院' where title = '京都の旅 4000'")
        conn.execute("analyze chat_sessions")
        index = hot_index("chat_sessions_title_characters_idx")
        (before,) = index_statuses(conn, [index])
        assert rows(conn, "select title from search_chat_titles(%s)", (word,)) == [("鯖江の寺院",)]
        conn.execute("select pg_stat_force_next_flush()")
        assert rows(conn, "select 1")
        (after,) = index_statuses(conn, [index])
        assert after.scans == before.scans + 1


@pytest.mark.every_version
def test_a_short_word_of_frequent_characters_does_not_read_all_trigrams(make_application_db: MakeApplicationDb) -> None:
    """Both characters are part of every title, in none of them side by side."""
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        fill_hot_tables(conn)
        conn.execute("update chat_sessions set title = 'の旅と宿'")
        conn.execute("vacuum (full, analyze) chat_sessions")
        conn.execute("set random_page_cost = 1.1; set max_parallel_workers_per_gather = 0")
        trigrams = hot_index("chat_sessions_title_trgm_idx")
        (before,) = index_statuses(conn, [trigrams])
        assert rows(conn, SEARCH, ("の宿",)) == []
        conn.execute("select pg_stat_force_next_flush()")
        assert rows(conn, "select 1")
        (after,) = index_statuses(conn, [trigrams])
        assert after.scans == before.scans


def found(session: Connection) -> set[str]:
    return {title for (title,) in rows(session, "select title from search_chat_titles('京都')")}


def test_policies_decide_what_is_found(make_application_db: MakeApplicationDb, as_role: AsRole) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        conn.execute("insert into accounts (id) values (%s), (%s)", (PERSON, OTHER))
        conn.execute("insert into account_linkages (account_id, supabase_user_id) values (%s, %s)", (PERSON, PERSON))
        conn.execute(MAKE, (PERSON, ["京都の旅"]))
        conn.execute(MAKE, (OTHER, ["京都の夜"]))
    with as_role(url, "authenticated", {"sub": PERSON}) as session:
        assert found(session) == {"京都の旅"}
        session.execute(MAKE, (PERSON, ["また京都"]))
        assert found(session) == {"京都の旅", "また京都"}
    with as_role(url, "authenticated", {"sub": OTHER}) as session:
        assert found(session) == set()
    with as_role(url, "service_role") as session:
        assert found(session) == {"京都の旅", "京都の夜", "また京都"}
    with as_role(url, "anon") as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
        found(session)


@pytest.mark.parametrize("auto_grant", [True, False])
def test_the_plans_are_closed_and_the_search_is_open_to_signed_in_users(
    make_application_db: MakeApplicationDb, auto_grant: bool
) -> None:
    with connect(make_application_db(rows=False, auto_grant=auto_grant, migrated=True)) as conn:
        for role, may in (("anon", False), ("authenticated", True), ("service_role", True)):
            granted = "select has_function_privilege(%s, 'public.search_chat_titles(text, int)', 'execute')"
            assert value(conn, granted, (role,)) is may
            assert not value(conn, "select has_table_privilege(%s, 'lifecycle.index_plans', 'select')", (role,))


def test_without_any_index_it_still_finds(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute("insert into accounts (id) values (%s)", (PERSON,))
        conn.execute(MAKE, (PERSON, ["京都の旅"]))
        for index in HOT_QUERY_INDEXES:
            conn.execute(f"drop index {index.name}".encode())
        assert len(rows(conn, SEARCH, ("京都",))) == len(rows(conn, SEARCH, ("都の旅",))) == 1
