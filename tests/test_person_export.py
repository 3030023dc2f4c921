"""An export of what is held about a person: all of it that the database vouches for, and nobody else's."""

import csv
import json
import stat
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from typer.testing import CliRunner, Result

from lifecycle.checking.check import check_declarations
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.person_export import Explanation, Explanations
from lifecycle.errors import RefusedError, VerificationError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.person_export.cover import COVER_SHEET
from lifecycle.person_export.export import PersonExport, export_person
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.archived import CHAT, LONG, archive, make_session, say
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.docs_pages import ROOT, blocks
from tests.erasing import ask, claim
from tests.erasure_requests import ordinary_accounts, settle_old_requests
from tests.people import Person, add_account, add_catalogue, add_person, add_visit, insert

AKI, BEN = Person("aki"), Person("ben")
SHARED = "sess_shared_77"
# Rows of a visit without an account are found by the visit's name alone, which a client typed.
CLAIMED = ("session_replay_events",)
LOG = """
select encode(subject, 'hex'), exported_by, tables, rows, failure, ended_at is not null
  from lifecycle.person_exports order by id
"""

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    """Two people with rows in every table, who share a visit, and the catalogue."""
    made = make_application_db(rows=False, migrated=True)
    with connect(made) as conn:
        add_catalogue(conn)
        add_person(conn, "aki", shared=SHARED)
        add_person(conn, "ben", shared=SHARED)
    return made


def export(conn: Connection, person: Person | str, folder: Path, application: Any = APPLICATION) -> PersonExport:
    key = str(person.account) if isinstance(person, Person) else person
    return export_person(conn, application, key, folder, operator="tester", now=datetime.now(UTC))


def exported(folder: Path) -> Rows:
    """The rows of every JSON file, by table."""
    return {path.stem.split("_", 1)[1]: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}


def expected(conn: Connection, person: Person, tables: list[str]) -> Rows:
    """The same rows, asked for one by one without the map: whatever names the person by an id."""
    ids = [
        str(person.account),
        str(person.user),
        *(str(person.id(what)) for what in ("chat", "old_chat", "quiz", "run")),
    ]
    found: Rows = {}
    for table in tables:
        columns = [
            column
            for (column,) in rows(
                conn,
                "select attname::text from pg_attribute where attrelid = to_regclass(%s) and attname ~ '_id$|^id$'"
                " and attnum > 0 and not attisdropped",
                (table,),
            )
        ]
        named = sql.SQL(" or ").join(sql.SQL("t.{}::text = any (%(ids)s)").format(sql.Identifier(c)) for c in columns)
        query = sql.SQL("select to_json(t) from {} t where {}").format(sql.Identifier(*table.split(".")), named)
        found[table] = [row for (row,) in conn.execute(query, {"ids": ids})]
    return found


def ids(found: list[dict[str, Any]]) -> list[str]:
    return sorted(str(row.get("id") or row.get("session_id") or row.get("account_id")) for row in found)


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


@pytest.mark.every_version
def test_an_erasure_that_begins_meanwhile_takes_the_files_back(conn: Connection, url: str, tmp_path: Path) -> None:
    def begin(_table: str) -> None:
        with connect(url) as other:
            if not value(other, "select count(*) from data_deletion_requests"):
                ask(other, AKI)

    with pytest.raises(RefusedError, match="deleted again"):
        export_person(
            conn, APPLICATION, str(AKI.account), tmp_path / "aki", operator="", now=datetime.now(UTC), progress=begin
        )
    assert not (tmp_path / "aki").exists()
    assert rows(conn, LOG)[-1][4:] == ("the person began to be erased meanwhile", True)


@pytest.mark.every_version
def test_a_large_history_does_not_have_to_fit_into_memory(conn: Connection, tmp_path: Path) -> None:
    conn.execute(
        "insert into search_queries (account_id, search_query) select %s, repeat(md5(n::text), 200)"
        " from generate_series(1, 5000) n",
        (AKI.account,),
    )
    tracemalloc.start()
    done = export(conn, AKI, tmp_path / "aki")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert done.rows > 5000
    assert sum(path.stat().st_size for path in (tmp_path / "aki").iterdir()) > 64_000_000
    assert peak < 8_000_000


@pytest.mark.every_version
def test_all_tables_are_of_one_moment(conn: Connection, url: str, tmp_path: Path) -> None:
    def write(_table: str) -> None:
        with connect(url) as other:
            insert(other, "search_queries", account_id=AKI.account, search_query="later")
            insert(other, "chat_sessions", account_id=AKI.account, title="later")

    export_person(
        conn, APPLICATION, str(AKI.account), tmp_path / "aki", operator="", now=datetime.now(UTC), progress=write
    )
    assert "later" not in json.dumps(exported(tmp_path / "aki"))


@pytest.mark.every_version
def test_an_account_without_rows_gets_itself(conn: Connection, tmp_path: Path) -> None:
    account = str(value(conn, "insert into accounts default values returning id"))
    done = export(conn, account, tmp_path / "new")
    assert (done.tables, done.rows) == (1, 1)
    assert [row["id"] for row in exported(tmp_path / "new")["public.accounts"]] == [account]
    assert "`public.chat_messages`" in (tmp_path / "new" / COVER_SHEET).read_text(encoding="utf-8")


@pytest.mark.every_version
def test_the_cover_sheet_explains_each_table_in_both_languages(conn: Connection, tmp_path: Path) -> None:
    done = export(conn, AKI, tmp_path / "aki")
    sheet = (tmp_path / "aki" / COVER_SHEET).read_text(encoding="utf-8")
    for table, words in APPLICATION.person_export.root.items():
        if f"| `{table}` |" in sheet:
            assert words.ja in sheet
            assert words.en in sheet
    found = exported(tmp_path / "aki")
    assert {table for table in found if f"| 表 / table | `{table}` |" not in sheet} == set()
    assert f"| 件数 / rows | {done.rows} |" in sheet
    assert "derived from other data of yours" in sheet
    assert str(AKI.account) in sheet
    assert set(found["auth.users"][0]) == {"id", "email", "email_confirmed_at"}


@pytest.mark.every_version
def test_every_table_of_the_map_is_explained() -> None:
    assert APPLICATION.personal_data is not None
    with_rows = {name for name, table in APPLICATION.personal_data.tables.items() if table.steps}
    assert with_rows - APPLICATION.person_export.root.keys() == set()


@pytest.mark.every_version
def test_check_tells_of_words_for_a_table_on_no_map(conn: Connection) -> None:
    words = Explanation(ja="店舗", en="A vendor")
    name = QualifiedName("public", "vendors")
    known = Explanations({**APPLICATION.person_export.root, name: words})
    found = check_declarations(conn, APPLICATION.model_copy(update={"person_export": known}))
    assert [(each.object, each.file) for each in found if each.capability == "person_export"] == [
        ("public.vendors", "person_export.yaml")
    ]
    assert [each for each in check_declarations(conn, APPLICATION) if each.capability == "person_export"] == []


@pytest.mark.every_version
def test_the_log_names_nobody(conn: Connection, tmp_path: Path) -> None:
    done = export(conn, AKI, tmp_path / "aki")
    subject = value(conn, "select encode(lifecycle.keyed_hash(%s), 'hex')", (str(AKI.account),))
    assert rows(conn, LOG) == [(subject, "postgres, tester", done.tables, done.rows, None, True)]
    entry = "select payload from audit_events where entity_id = 'export_personal_data'"
    payload = value(conn, entry)
    assert (payload["rows"], payload["exported_by"]) == (done.rows, "postgres, tester")
    assert [word for word in (*AKI.words, subject) if word in json.dumps(payload)] == []
    log, of_one = blocks(ROOT / "docs/how-to/export-a-persons-data.md", "sql")
    assert len(rows(conn, log)) == 1
    assert rows(conn, of_one) == []
    # Nothing of the person's keys stays behind, and nobody waits to be erased.
    assert (
        value(
            conn,
            "select (select count(*) from lifecycle.erasure_keys) + (select count(*) from lifecycle.deletion_jobs)",
        )
        == 0
    )


@pytest.mark.every_version
def test_a_table_that_is_gone_holds_nothing_and_one_that_cannot_be_read_is_an_error(
    conn: Connection, server: Server, tmp_path: Path
) -> None:
    conn.execute("drop table quiz_answers cascade; drop table account_profiles cascade")
    export(conn, AKI, tmp_path / "aki")
    assert "public.quiz_answers" not in exported(tmp_path / "aki")
    conn.execute("alter table reviews rename user_id to somebody")
    with pytest.raises(RefusedError, match=r"public\.reviews\.user_id: is on the map"):
        export(conn, AKI, tmp_path / "other")
    conn.execute("alter table reviews rename somebody to user_id")
    conn.execute("revoke all on account_metadata from postgres, service_role, authenticated, anon")
    with psycopg.connect(server.url(user=SUPERUSER), autocommit=True) as admin:
        # The sandbox's postgres may read everything, as Supabase's does.
        admin.execute("revoke pg_read_all_data from postgres")
        try:
            with pytest.raises(RefusedError, match=r"public\.account_metadata: .* may not be read"):
                export(conn, AKI, tmp_path / "other")
        finally:
            admin.execute("grant pg_read_all_data to postgres")
    assert not (tmp_path / "other").exists()


@pytest.mark.every_version
def test_the_december_application_and_one_that_declares_nobody(
    make_application_db: MakeApplicationDb, tmp_path: Path
) -> None:
    url = make_application_db(migrated=True, december=True)
    with connect(url) as conn:
        settle_old_requests(conn)
        account = ordinary_accounts(conn)[0]
        assert export(conn, account, tmp_path / "december").rows > 10
        with pytest.raises(RefusedError, match="no personal data is declared"):
            export(conn, account, tmp_path / "none", APPLICATION.model_copy(update={"personal_data": None}))


@pytest.fixture
def command(url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv(URL_VARIABLE, url)
    return lambda *arguments: CliRunner().invoke(app, ["person", *arguments])


@pytest.mark.every_version
def test_the_command(command: Callable[..., Result], tmp_path: Path) -> None:
    done = command("export", str(AKI.account), "--to", str(tmp_path / "aki"))
    assert done.exit_code == 0, done.output
    assert f"written to {tmp_path / 'aki'}" in done.output.replace("\n", "")
    assert (tmp_path / "aki" / COVER_SHEET).is_file()
    assert str(AKI.account) not in done.output
    refused = command("export", "nobody", "--to", str(tmp_path / "other"))
    assert refused.exit_code == 1
    assert "No export: nobody has this key in public.accounts (column id)." in refused.output
    assert "Traceback" not in refused.output


@pytest.mark.every_version
def test_migrating_again_changes_nothing(conn: Connection, url: str, tmp_path: Path) -> None:
    export(conn, AKI, tmp_path / "aki")
    assert upgrade(url, APPLICATION).changes == ()
    assert value(conn, "select count(*) from lifecycle.person_exports") == 1
    assert CHAT.declared.compress == ("content",)
