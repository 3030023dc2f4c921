"""An export of what is held about a person: all of it that the database vouches for, and nobody else's."""

import csv
import json
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefusedError, VerificationError
from lifecycle.person_export.cover import COVER_SHEET
from tests.archived import LONG, archive, make_session, say
from tests.conftest import MakeApplicationDb
from tests.erasing import ask, claim
from tests.exporting import AKI, BEN, CLAIMED, LOG, SHARED, expected, export, exported, ids, two_people
from tests.people import Person, add_account, add_visit, insert


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return two_people(make_application_db)


def test_all_rows_of_the_person_and_nobody_elses(conn: Connection, tmp_path: Path) -> None:
    done = export(conn, AKI, tmp_path / "aki")
    found = exported(tmp_path / "aki")
    assert (done.tables, done.rows) == (len(found), sum(map(len, found.values())))
    assert set(found) >= {
        *("public.accounts", "public.user_behavior_events", "public.business_metrics_events", "public.search_queries"),
        *("public.chat_sessions", "public.chat_messages", "public.chat_messages_archive", "public.quiz_results"),
        *("public.quiz_answers", "public.recommendation_items", "public.reviews", "public.consent_history"),
        *("public.vouchers", "public.voucher_redemptions", "public.audit_events", "auth.users"),
    }
    # Two visits by account: the person's own, and the shared one.
    assert len(found["public.user_behavior_events"]) == 3
    assert all(row["account_id"] == str(AKI.account) for row in found["public.user_behavior_events"])
    # The booking with the account, and the guest's under the confirmed address.
    assert ids(found["public.form_submissions"]) == sorted([str(AKI.id("booking")), str(AKI.id("guest"))])
    assert ids(found["public.generated_activities"]) == sorted([str(AKI.id("draft")), str(AKI.id("gift"))])
    assert {table for table in CLAIMED if f"public.{table}" in found} == set()
    for table, held in expected(conn, AKI, [table for table in found if table.startswith("public.")]).items():
        if table not in ("public.chat_messages_archive", "public.articles"):
            assert [row for row in held if row not in found[table]] == [], table
    everything = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "aki").iterdir())
    assert [word for word in BEN.words if word in everything] == []


@pytest.mark.every_version
def test_each_row_is_as_it_is_stored_and_the_csv_says_the_same(conn: Connection, tmp_path: Path) -> None:
    conn.execute("update reviews set comment = %s where account_id = %s", ('=1+1, "x"\n雨', AKI.account))
    folder = tmp_path / "aki"
    export(conn, AKI, folder)
    (review,) = exported(folder)["public.reviews"]
    assert review == value(conn, "select to_json(r) from reviews r where account_id = %s", (AKI.account,))
    assert list(review) == [name for name, *_ in conn.execute("select * from reviews limit 0").description or ()]
    (path,) = folder.glob("*public.reviews.csv")
    with path.open(encoding="utf-8-sig", newline="") as file:
        (line,) = csv.DictReader(file)
    assert line["comment"] == "'" + review["comment"]
    assert line["rating"] == "5"
    assert path.read_bytes().count(b",,") == 1  # null is nothing, unlike a text without letters


@pytest.mark.every_version
def test_archived_rows_equal_those_before_archiving(
    make_application_db: MakeApplicationDb, tmp_path: Path, now: datetime
) -> None:
    url = make_application_db(rows=False, migrated=True)
    with connect(url) as conn:
        session, _ = make_session(conn)
        account = str(value(conn, "select account_id from chat_sessions where id = %s", (session,)))
        for text in (LONG, "", "short", "福" * 300_000):
            say(conn, session, text, now - timedelta(days=200))
        say(conn, session, "today", now)
        export(conn, account, tmp_path / "before")
        assert archive(url, now).moved == 4
        export(conn, account, tmp_path / "after")
    before, after = exported(tmp_path / "before"), exported(tmp_path / "after")
    old = after["public.chat_messages_archive"]
    assert all(row.pop("archived_at") for row in old)
    by_id = {row["id"]: row for row in before["public.chat_messages"]}
    assert {row["id"]: row for row in old + after["public.chat_messages"]} == by_id
    assert len(by_id) == 5
    assert "古い行の保管場所" in (tmp_path / "after" / COVER_SHEET).read_text(encoding="utf-8")


@pytest.mark.every_version
def test_a_damaged_archived_text_fails_and_nothing_is_left(conn: Connection, tmp_path: Path) -> None:
    conn.execute(
        "update chat_messages_archive set content_sha256 = sha256('other') where session_id = %s", (AKI.id("old_chat"),)
    )
    with pytest.raises(VerificationError, match=r"public\.chat_messages_archive\.content"):
        export(conn, AKI, tmp_path / "aki")
    assert not (tmp_path / "aki").exists()
    assert rows(conn, LOG)[-1][2:] == (None, None, "VerificationError", True)


def test_a_shared_or_typed_name_gives_nobody_a_strangers_rows(conn: Connection, tmp_path: Path) -> None:
    """Who types a victim's session name, address or user id into rows of theirs gets their own rows, no more."""
    eve = Person("eve")
    add_account(conn, eve)
    add_visit(conn, eve, AKI.visit)
    conn.execute(
        "update auth.users set email_confirmed_at = null, email = %s where id = %s", ("aki@mail.example2", eve.user)
    )
    insert(conn, "form_submissions", account_id=eve.account, email=AKI.email, first_name="eve")
    insert(conn, "form_submissions", email="aki@mail.example2", first_name="guest of another")
    export(conn, eve, tmp_path / "eve")
    found = exported(tmp_path / "eve")
    assert {row["account_id"] for row in found["public.user_behavior_events"]} == {str(eve.account)}
    assert [row["first_name"] for row in found["public.form_submissions"]] == ["eve"]
    assert "public.session_replay_events" not in found
    everything = json.dumps(found)
    assert [word for word in (str(AKI.account), str(AKI.id("chat"))) if word in everything] == []


def test_an_id_that_somebody_chose_leads_to_rows_of_that_kind_alone(conn: Connection, tmp_path: Path) -> None:
    """Whose conversation has a victim's account for its id gets its messages, and nothing that names the victim."""
    eve = Person("eve")
    add_account(conn, eve)
    insert(conn, "chat_sessions", id=AKI.account, account_id=eve.account)
    insert(conn, "chat_messages", session_id=AKI.account, role="user", content="of eve", sequence=1)
    assert value(conn, "select count(*) from audit_events where entity_id = %s", (str(AKI.account),)) > 0
    export(conn, eve, tmp_path / "eve")
    found = exported(tmp_path / "eve")
    assert [row["content"] for row in found["public.chat_messages"]] == ["of eve"]
    assert "public.audit_events" not in found


@pytest.mark.every_version
def test_files_are_readable_for_their_maker_alone_and_replace_nothing(conn: Connection, tmp_path: Path) -> None:
    folder = tmp_path / "aki"
    export(conn, AKI, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for taken in (folder, tmp_path):
        with pytest.raises(RefusedError, match="is there already"):
            export(conn, BEN, taken)
    with pytest.raises(RefusedError, match="cannot be made"):
        export(conn, BEN, tmp_path / "no" / "folder")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_one_who_is_being_erased_or_unknown_gets_nothing(conn: Connection, tmp_path: Path) -> None:
    for unknown in ("00000000-0000-0000-0000-000000000000", "nobody", ""):
        with pytest.raises(RefusedError, match=r"nobody has this key in public\.accounts"):
            export(conn, unknown, tmp_path / "aki")
    request = ask(conn, AKI)
    with pytest.raises(RefusedError, match="has asked to be erased"):
        export(conn, AKI, tmp_path / "aki")
    conn.execute("select hold_deletion_request(%s, 'a lawsuit')", (str(request),))
    conn.execute(
        "insert into lifecycle.erasure_keys select id, 'web_session', %s from lifecycle.deletion_jobs", (SHARED,)
    )
    export(conn, AKI, tmp_path / "held")
    # What an erasure had collected before it was held is not followed.
    assert "public.session_replay_events" not in exported(tmp_path / "held")
    assert value(conn, "select state from lifecycle.deletion_jobs") == "held"
    assert value(conn, "select count(*) from lifecycle.erasure_keys") == 1
    conn.execute("select release_deletion_request(%s)", (str(request),))
    for _ in ("queued", "running"):
        with pytest.raises(RefusedError, match="is being erased"):
            export(conn, AKI, tmp_path / "aki")
        claim(conn)
    conn.execute("update accounts set status = 'deleted' where id = %s", (BEN.account,))
    with pytest.raises(RefusedError, match="was erased"):
        export(conn, BEN, tmp_path / "aki")
    assert not (tmp_path / "aki").exists()
    assert value(conn, "select count(*) from lifecycle.person_exports") == 1
