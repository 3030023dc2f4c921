"""An export beside erasures and writers, of large histories and other editions, and what is said of it."""

import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from lifecycle.checking.check import check_declarations
from lifecycle.database import Connection, connect, rows, value
from lifecycle.declarations.person_export import Explanation, Explanations
from lifecycle.errors import RefusedError
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from lifecycle.person_export.cover import COVER_SHEET
from lifecycle.person_export.export import export_person
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from sandbox.server import SUPERUSER, Server
from tests.archived import CHAT
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.docs_pages import ROOT, blocks
from tests.erasing import ask
from tests.erasure_requests import ordinary_accounts, settle_old_requests
from tests.exporting import AKI, LOG, export, exported, two_people
from tests.people import insert


@pytest.fixture
def url(make_application_db: MakeApplicationDb) -> str:
    return two_people(make_application_db)


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


def test_every_table_of_the_map_is_explained() -> None:
    assert APPLICATION.personal_data is not None
    with_rows = {name for name, table in APPLICATION.personal_data.tables.items() if table.steps}
    assert with_rows - APPLICATION.person_export.root.keys() == set()


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
