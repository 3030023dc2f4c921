"""What the reader promises beside: a person's rows from few files, bounds, clear refusals, no secret, nothing left."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from lifecycle.cold import export, manifest
from lifecycle.cold.connect import ColdReader
from lifecycle.cold.connect import connect as connect_reader
from lifecycle.cold.query import READER
from lifecycle.cold.sweep import remove_retired
from lifecycle.database import connect, rows, value
from lifecycle.errors import ColdStorageError, RefusedError
from sandbox.server import SUPERUSER, Server
from tests.cold import COLD, EVENTS, MakeColdDb, local_storage, month, move_all, now
from tests.cold_reading import WatchedStorage
from tests.declared import APPLICATION
from tests.partitioned import BEHAVIOR, insert_events

pytest_plugins = ("tests.cold_fixtures",)
pytestmark = [pytest.mark.one_server, pytest.mark.every_version]

VISITS = """
insert into user_behavior_events (account_id, session_id, event_timestamp, page_url)
select a.id, case when n %% 2 = 0 then 'shared' else a.id::text end, m.month + n * interval '1 day', '/'
  from accounts a, unnest(%s::timestamptz[]) m(month), generate_series(1, 4) n
"""


@pytest.fixture
def url(make_cold_db: MakeColdDb) -> str:
    """Some people in each of six months."""
    url = make_cold_db()
    with connect(url) as conn:
        conn.execute("insert into accounts (id) select gen_random_uuid() from generate_series(1, 4)")
        conn.execute(VISITS, ([month(back) for back in range(1, 7)],))
        insert_events(conn, BEHAVIOR, month(3), session="shared", rows=2)
    return url


@pytest.fixture
def storage(tmp_path: Path) -> WatchedStorage:
    return WatchedStorage(local_storage(tmp_path / "cold"))


@pytest.fixture
def reader(url: str, storage: WatchedStorage) -> Iterator[ColdReader]:
    with connect_reader(url, COLD, storage) as reader:
        yield reader


def test_one_persons_rows_come_from_one_file_a_month(
    url: str, storage: WatchedStorage, reader: ColdReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "ROWS_PER_FILE", 2)
    with connect(url) as conn:
        before = rows(conn, "select account_id::text, id::text from user_behavior_events order by 1, 2")
        conn.execute("analyze user_behavior_events")
    moved = move_all(url, storage)
    assert min(each.files for each in moved[1:]) >= 3
    people = sorted({account for account, _ in before if account})
    assert len(people) >= 5
    for account in people:
        storage.located.clear()
        found = reader.of_person("user_behavior_events", "account_id", account.upper())
        assert sorted(str(row[0]) for row in found.rows()) == [id_ for key, id_ in before if key == account]
        assert len(storage.located) == len(moved)
    storage.located.clear()
    some = reader.of_person("user_behavior_events", "account_id", people[0], month(4), month(3))
    assert {moment.astimezone(UTC).month for moment in some.df()["event_timestamp"]} == {month(4).month}
    assert len(storage.located) == 1
    # Rows of a session stand with their accounts, so that every file may hold some.
    shared = reader.query("select count(*) from user_behavior_events where session_id = 'shared'").rows()
    assert len(reader.of_person("user_behavior_events", "session_id", "shared")) == shared[0][0]
    for wrong, says in (("nobody", "this key is not"), ("'; drop table accounts; --", "this key is not")):
        with pytest.raises(RefusedError, match=says):
            reader.of_person("user_behavior_events", "account_id", wrong)
    with pytest.raises(RefusedError, match="has no column nothing"):
        reader.of_person("user_behavior_events", "nothing", people[0])


def test_a_dataframe_has_a_bound_and_reads_the_files_of_its_months(
    url: str, storage: WatchedStorage, reader: ColdReader
) -> None:
    move_all(url, storage)
    storage.located.clear()
    frame = reader.frame("user_behavior_events", month(4), datetime.combine(month(3).date(), datetime.min.time()))
    assert [key.split("/")[1] for key in storage.located] == [f"{month(4):%Y-%m}"]
    assert set(frame["event_timestamp"].dt.month) == {month(4).month}
    assert len(reader.frame("user_behavior_events", month(6), now(), ["id"], most_rows=1000)) > 100
    with pytest.raises(RefusedError, match="more than 10 rows there"):
        reader.frame("user_behavior_events", month(4), month(3), ["id"], most_rows=10)
    with pytest.raises(RefusedError, match="nothing"):
        reader.frame("user_behavior_events", month(4), month(3), ["nothing"])
    with pytest.raises(RefusedError, match="cold_after"):
        reader.frame("session_replay_events", month(4), month(3))


def test_every_other_table_is_there_and_a_table_may_be_named_twice(
    url: str, storage: WatchedStorage, reader: ColdReader
) -> None:
    pairs = """
        select count(*), count(b.id), count(a.id) from public.user_behavior_events e
          left join accounts a on a.id = e.account_id
          left join user_behavior_events b on b.id = e.id
    """
    before = reader.query(pairs).rows()
    move_all(url, storage)
    assert reader.query(pairs).rows() == before
    assert before[0][0] == before[0][1] > before[0][2] // 2 > 0
    assert reader.query("select count(*) from database.lifecycle.cold_files").rows() > [(2,)]


def test_a_table_that_is_declared_cold_no_more_is_still_read_whole(url: str, storage: WatchedStorage) -> None:
    move_all(url, storage)
    with connect_reader(url, COLD, storage) as before, connect_reader(url, APPLICATION, storage) as after:
        query = "select count(*) from public.user_behavior_events"
        assert after.query(query).rows() == before.query(query).rows()


REFUSED = {
    "selec 1": "syntax error",
    "select nothing from accounts": 'Referenced column "nothing" not found',
    "select * from nowhere": "nowhere does not exist",
    "select 1; select 2": "Give one SELECT",
    "": "Give one SELECT",
    "delete from accounts": "Give one SELECT",
    "copy (select 1) to 'stolen.csv'": "Give one SELECT",
    "select 'x'::int": "Could not convert",
    "from postgres_execute('hot_0', 'delete from public.accounts')": "read-only transaction",
    "from postgres_execute('database', 'delete from public.accounts')": "read-only transaction",
}


def test_what_cannot_be_run_is_refused_in_a_sentence(reader: ColdReader) -> None:
    for statement, says in REFUSED.items():
        with pytest.raises(RefusedError, match=says) as refused:
            reader.query(statement)
        assert "\n" not in str(refused.value)
        assert "lifecycle_result" not in str(refused.value)


def test_a_file_that_is_gone_is_an_error_of_the_store(url: str, storage: WatchedStorage, reader: ColdReader) -> None:
    move_all(url, storage)
    with connect(url) as conn:
        file = manifest.live_files(conn, EVENTS.relation)[0]
        storage.remove(file.key)
        with pytest.raises(ColdStorageError, match="could not be read"):
            reader.query("select count(*) from user_behavior_events")
        manifest.retire(conn, [file.id])
        assert remove_retired(conn, local_storage(Path(storage.folder)))
    assert reader.query("select count(*) from user_behavior_events").rows()
    with connect_reader(url, COLD, None) as without, pytest.raises(RefusedError, match="LIFECYCLE_COLD_URL"):
        without.query("select 1")


def test_no_password_is_shown_and_no_session_stays(url: str, storage: WatchedStorage, reader: ColdReader) -> None:
    move_all(url, storage)
    password = make_url(url).password
    assert password
    for told in ("duckdb_databases()", "duckdb_secrets()", "duckdb_settings()", "duckdb_views()"):
        shown = reader.query(f"select * from {told}").rows()
        assert shown
        assert password not in str(shown)
    with connect(url) as conn:
        assert value(conn, "select count(*) from pg_stat_activity where application_name = %s", (READER,)) == 0
        assert value(conn, "select count(*) from pg_locks where locktype = 'advisory'") == 0
    with pytest.raises(RefusedError) as refused:
        reader.query(f'select "{password}x" from accounts')
    assert password not in str(refused.value)


def test_what_does_not_fit_goes_to_the_disk_and_leaves_it(
    url: str, storage: WatchedStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with connect_reader(url, COLD, storage, memory_limit="64MB") as reader:
        found = reader.query(
            "select range as n, md5(range::text) || md5((range + 1)::text) as text from range(2000000)"
        )
        assert len(found) == 2_000_000
        assert sum(path.stat().st_size for path in (tmp_path / "scratch").rglob("*.tmp")) > 20_000_000
        with pytest.raises(RefusedError, match="raise memory_limit"):
            reader.query("select list(range) from range(40000000)")
    assert not list((tmp_path / "scratch").iterdir())


def test_rows_that_a_policy_would_hide_are_an_error_not_missing(
    url: str, server: Server, storage: WatchedStorage
) -> None:
    analyst = make_url(url).set(username="cold_analyst", password="analyst")  # noqa: S106
    database = str(make_url(url).database)
    query = "select count(*) from user_behavior_events"
    with connect(server.url(database, user=SUPERUSER)) as conn:
        conn.execute("create role cold_analyst login bypassrls password 'analyst'")
        try:
            conn.execute("grant usage on schema public, lifecycle, event_partitions to cold_analyst")
            conn.execute("grant select on all tables in schema public, lifecycle, event_partitions to cold_analyst")
            with connect_reader(analyst.render_as_string(hide_password=False), COLD, storage) as reader:
                assert reader.query(query).rows() > [(100,)]
                conn.execute("alter role cold_analyst nobypassrls")
                with pytest.raises(RefusedError, match="run: PostgreSQL says: query would be affected by row-level"):
                    reader.query(query)
                conn.execute("revoke select on lifecycle.cold_files from cold_analyst")
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="cold_files"):
                    reader.query(query)
        finally:
            conn.execute("drop owned by cold_analyst")
            conn.execute("drop role cold_analyst")
