"""Erasure as an asset: a run erases, proves and describes without naming anybody; its checks find what they should."""

import gzip
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from assets.erasure_chart import BARS, counted, erasures_chart_markdown
from assets.erasure_checks import (
    nothing_is_left,
    personal_data_map_is_complete,
    receipts_unbroken,
    sign_in_users_gone,
)
from assets.erasures import KEY
from lifecycle.database import Connection, connect, rows, value
from lifecycle.erasures.compressed import HEADER, Words, unpack
from lifecycle.erasures.due import deletions_due
from lifecycle.erasures.policy import ERASURE
from lifecycle.erasures.queue import enqueue
from lifecycle.erasures.run import BatchResult, erase_batch
from lifecycle.erasures.status import OpenRequests, erasure_health
from orchestration.definitions import build_definitions
from orchestration.schedules import LOOK_FOR_RETURNED
from resources.postgres import ApplicationDatabase
from sandbox.application import clone_database, drop_database
from sandbox.server import Server
from tests.conftest import Templates
from tests.erasure_requests import (
    add_attachments,
    everybody_named,
    job,
    ordinary_accounts,
    packed,
    request_deletion,
    set_job,
)

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.erasure_fixtures",)

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
CHECKS = {
    "nothing_is_left",
    "personal_data_map_is_complete",
    "receipts_unbroken",
    "sign_in_users_gone",
}


def run(url: str, instance: dg.DagsterInstance, config: dict[str, Any] | None = None) -> dg.ExecuteInProcessResult:
    definition = build_definitions(database=ApplicationDatabase(url=url)).resolve_job_def("erase_personal_data")
    return definition.execute_in_process(
        instance=instance, raise_on_error=False, run_config={**QUIET, **(config or {})}
    )


def metadata_of(instance: dg.DagsterInstance) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(KEY)
    assert event is not None
    assert event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def records(metadata: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [dict(record.data) for record in metadata[name].records]


@pytest.fixture
def url(settled_url: str) -> str:
    return settled_url


def erase(conn: Connection, **options: Any) -> BatchResult:
    """Enqueue and erase one batch."""
    enqueue(conn)
    result = erase_batch(conn, sleep=lambda _: None, **options)
    assert result is not None
    return result


def test_a_run_erases_proves_and_names_nobody(url: str, conn: Connection) -> None:
    accounts = ordinary_accounts(conn)[:2]
    names = everybody_named(conn)
    requests = [request_deletion(conn, account) for account in accounts]
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(url, instance)
        assert result.success
        evaluations = result.get_asset_check_evaluations()
        assert {(found.check_name, found.passed) for found in evaluations} == {(name, True) for name in CHECKS}
        metadata = metadata_of(instance)
        logged = str(instance.all_logs(result.run_id))
    assert {record["request"] for record in records(metadata, "receipts")} == set(requests)
    assert [job(conn, request)["state"] for request in requests] == ["verified"] * 2
    assert (metadata["requests"].value, metadata["verified"].value, metadata["failed"].value) == (2, 2, 0)
    told = {(r["table"], r["action"]): r["rows"] for r in records(metadata, "rows")}
    kept = rows(conn, "select table_name, action, sum(rows)::int from lifecycle.erasure_counts group by 1, 2")
    assert told == {(table, action): count for table, action, count in kept}
    assert told["public.chat_sessions", "delete"] > 0
    assert {"public.accounts.id", "public.data_deletion_requests.account_id"} <= {
        record["column"] for record in records(metadata, "exemptions")
    }
    assert all(record["reason"] for record in records(metadata, "exemptions"))
    assert {record["step"] for record in records(metadata, "steps")} >= {"collect", "erase", "search", "unpack"}
    assert "data:image/png;base64," in str(metadata["picture"].value)
    for text in (str(metadata), logged):
        assert [name for name in names if name in text] == []


@pytest.mark.every_version
def test_a_run_without_requests_succeeds_and_looks_for_what_came_back(url: str, conn: Connection) -> None:
    account = ordinary_accounts(conn)[0]
    request = request_deletion(conn, account)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(url, instance).success
        assert run(url, instance).success
        assert "requests" not in metadata_of(instance)
        late = "insert into search_queries (account_id, search_query, searched_at) values (%s, 'tea', now())"
        conn.execute(late, (account,))
        assert run(url, instance, LOOK_FOR_RETURNED).success
        metadata = metadata_of(instance)
    assert records(metadata, "returned") == [{"request": request, "table": "public.search_queries", "rows": 1}]
    assert (metadata["verified"].value, job(conn, request)["recurrences"]) == (1, 1)
    assert value(conn, "select count(*) from search_queries where account_id = %s", (account,)) == 0


@pytest.mark.every_version
def test_compressed_text_that_names_the_person_fails_the_job_with_its_column(url: str, conn: Connection) -> None:
    account = ordinary_accounts(conn)[0]
    request = request_deletion(conn, account)
    add_attachments(conn, "clean", packed("nobody"), packed(f"\u5bbf\u6cca\u8005\uff1a{account.upper()}\u3055\u3093"))
    with dg.DagsterInstance.ephemeral() as instance:
        result = run(url, instance)
        assert result.success
        (found,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "nothing_is_left"]
        assert not found.passed
        assert found.severity is dg.AssetCheckSeverity.ERROR
        assert "public.attachments.body" in str(found.description)
        metadata = metadata_of(instance)
        assert (metadata["failed"].value, metadata["verified"].value) == (1, 0)
        assert records(metadata, "residual") == [{"column": "public.attachments.body", "rows": 1, "reason": "a test"}]
        assert account not in str(metadata).lower() + str(found.description).lower()
    conn.execute("delete from attachments")
    set_job(conn, request, next_attempt_at=str(datetime.now(UTC)))
    assert erase(conn).verified == 1
    assert nothing_is_left(erasure_health(conn)).passed


def test_what_may_name_the_person_is_counted_and_what_cannot_be_read_is_reported(conn: Connection) -> None:
    account = ordinary_accounts(conn)[0]
    request = request_deletion(conn, account)
    damaged = packed(f"{'tea ' * 50} {account}")[:-12]
    like_gzip = b"\x1f\x8b" + hashlib.sha256(b"").digest()[2:]
    add_attachments(conn, "exempt", packed(account), packed(f"x {account} y {account}"), damaged, like_gzip)
    result = erase(conn)
    assert result.verified == 1
    assert ("public.attachments.body", 2) in {(found.column, found.rows) for found in result.of_treatment("exempt")}
    body = value(conn, "select body from lifecycle.erasure_receipts where request_id = %s", (request,))
    compressed = body["search"]["compressed"]
    assert (compressed["unreadable"], compressed["not_compressed"]) == (1, 1)
    assert compressed["values"] == value(conn, "select count(*) from attachments") + value(
        conn, "select count(*) from chat_messages_archive"
    )


def test_a_value_that_cannot_be_read_fails_the_job_where_nobody_may_be_named(conn: Connection) -> None:
    request_deletion(conn, ordinary_accounts(conn)[0])
    add_attachments(conn, "clean", packed("tea " * 500)[:-9])
    (failed,) = erase(conn).failed
    assert "public.attachments.body" in failed.error


def test_a_worker_that_lost_its_lease_says_so_and_the_next_one_finishes(url: str, conn: Connection) -> None:
    request = request_deletion(conn, ordinary_accounts(conn)[0])
    taken: list[BatchResult] = []

    def progress(message: str, _fraction: float) -> None:
        if message == "sign-in users":
            with connect(url) as other:
                past = str(datetime.now(UTC) - timedelta(minutes=1))
                set_job(other, request, lease_until=past)
                result = erase_batch(other)
                assert result is not None
                taken.append(result)

    slow = erase(conn, progress=progress)
    assert (slow.verified, slow.failed, slow.taken_over) == (0, (), 1)
    assert taken[0].verified == 1
    assert value(conn, "select count(*) from lifecycle.erasure_receipts") == 1


def test_checks_find_what_they_should(conn: Connection) -> None:
    for account in ordinary_accounts(conn)[:2]:
        request_deletion(conn, account)
    assert erase(conn).verified == 2
    healthy = erasure_health(conn)
    for check in (nothing_is_left, personal_data_map_is_complete, receipts_unbroken, sign_in_users_gone):
        assert check(healthy).passed, check.__name__
    conn.execute("alter table accounts add column nickname text")
    conn.execute("alter table search_queries drop column page_url cascade")
    unmapped = personal_data_map_is_complete(erasure_health(conn))
    assert not unmapped.passed
    assert "public.accounts.nickname" in unmapped.description
    conn.execute("alter table accounts drop column nickname")
    conn.execute("alter table form_submissions drop column travel_issues cascade")
    missing = personal_data_map_is_complete(erasure_health(conn))
    assert not missing.passed
    assert "public.form_submissions.travel_issues" in missing.description
    conn.execute("update lifecycle.erasure_receipts set body = body || '{\"attempts\": 9}' where id = 1")
    broken = receipts_unbroken(erasure_health(conn))
    assert not broken.passed
    assert "receipt 1: it was changed" in broken.description
    conn.execute("update lifecycle.deletion_jobs set sign_in_user = 'left: another account signs in with it'")
    left = sign_in_users_gone(erasure_health(conn))
    assert not left.passed
    assert "2 requests: left: another account" in left.description


def test_one_deadline_for_the_review_and_the_jobs(conn: Connection) -> None:
    """A failed job is still due, a cancelled one is not, and what came back has a month of its own."""
    now = datetime.now(UTC)
    failed, cancelled, returned = (request_deletion(conn, account) for account in ordinary_accounts(conn)[:3])
    enqueue(conn)
    late = str(now - timedelta(days=1))
    set_job(conn, failed, state="failed", due_at=late)
    set_job(conn, cancelled, state="cancelled", due_at=late)
    set_job(conn, returned, state="queued", due_at=str(now + timedelta(days=3)))
    conn.execute("update data_deletion_requests set status = 'failed' where id = any (%s)", ([failed, cancelled],))
    conn.execute("update data_deletion_requests set status = 'completed' where id = %s", (returned,))
    for attempts, given_up in ((1, 0), (ERASURE.tries_until_failed, 1)):
        conn.execute("update lifecycle.deletion_jobs set attempts = %s where request_id = %s", (attempts, failed))
        due = deletions_due(conn, now)
        assert due is not None
        assert (due.open, due.overdue, due.due_soon, due.failed) == (2, 1, 1, given_up)


def test_unpacking_knows_parts_damage_and_bombs() -> None:
    text = b"tea " * 100_000
    assert unpack(gzip.compress(text)).text == text
    twice = unpack(gzip.compress(b"one ") + gzip.compress(b"two") + b"\0\0")
    assert (twice.text, twice.complete) == (b"one two", True)
    bomb = unpack(gzip.compress(bytes(50_000_000)), limit=1_000_000)
    assert (len(bomb.text), bomb.complete) == (1_000_000, False)
    assert not unpack(gzip.compress(text)[:-1]).complete
    wrong = bytearray(gzip.compress(text))
    wrong[-6] ^= 1
    assert not unpack(bytes(wrong)).complete
    for level in (1, 6, 9):
        assert HEADER.match(gzip.compress(b"x", level))


PIECES = st.sampled_from(
    [
        *("2f6c1d1e-9f7d-4a55-8c8e-0b7f3c6a1d2e", "a@b.jp", "A.b+c@Mail.example.com", "a%40b.jp", "a%2Bx@b.jp"),
        *("\\n", "\\u3042", "%20", "\u65e5\u672c\u8a9e", " ", '"', ",", ".", "-", "_", "@", "%40", "x", "9"),
        *("session-12345", "S_0123456789", "\n"),
    ]
)


@pytest.fixture(scope="module")
def sql_words(server: Server, templates: Templates) -> Iterator[Connection]:
    """A migrated database without rows, whose functions are asked again and again."""
    with connect(clone_database(server, templates(False, True, True), "words")) as conn:
        yield conn
    drop_database(server, "words")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(PIECES, min_size=1, max_size=8))
@example(pieces=["2f6c1d1e-9f7d-4a55-8c8e-0b7f3c6a1d2e", "@", "b.jp"])
def test_python_finds_every_word_that_the_database_finds(sql_words: Connection, pieces: list[str]) -> None:
    text = "".join(pieces)
    patterns = "select lifecycle.id_pattern(), lifecycle.address_pattern(), lifecycle.identifier_hint()"
    session = value(sql_words, "select lifecycle.session_pattern(10)")
    query = "select distinct word from lifecycle.words_in(%s, %s)"
    expected = [word for (word,) in rows(sql_words, query, (text, session))]
    jobs = {word.encode(): frozenset({number}) for number, word in enumerate(expected)}
    words = Words.compiled(jobs, rows(sql_words, patterns)[0], 10, session)
    assert words.found_in(text.encode()) == set(range(len(expected)))


def test_the_chart_counts_every_request_once() -> None:
    found = [OpenRequests("queued", days, 1) for days in (-40, -1, 0, 6, 7, 13, 14, 20, 21, 31)]
    found += [OpenRequests("held", 3, 5)]
    assert counted(found)["queued"] == [2] * len(BARS)
    assert counted(found)["held"][1] == 5
    for requests in (found, []):
        assert "base64," in erasures_chart_markdown(requests)
