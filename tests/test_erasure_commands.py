"""`lifecycle erasure` on real databases: what it prints, what it changes, and its errors as messages."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner, Result

from lifecycle.database import Connection, connect, value
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from tests.conftest import MakeApplicationDb
from tests.docs_pages import ROOT, blocks
from tests.erasure_requests import (
    everybody_named,
    job,
    ordinary_accounts,
    packed,
    request_deletion,
    settle_old_requests,
)

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.erasure_fixtures",)

Command = Callable[..., Result]


@pytest.fixture
def url(settled_url: str) -> str:
    return settled_url


@pytest.fixture
def erasure(url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["erasure", *arguments])
        assert result.exit_code == code, result.output
        assert "Traceback" not in result.output
        return result

    return run


def test_from_the_plan_to_the_receipt(conn: Connection, erasure: Command) -> None:
    account = ordinary_accounts(conn)[0]
    names = everybody_named(conn)
    request = request_deletion(conn, account)
    assert f"no receipt for request {request}" in erasure("receipt", request, code=1).stderr
    planned = {(s["table"], s["found_by"]): s["rows"] for s in json.loads(erasure("plan", request, "--json").stdout)}
    sessions = value(conn, "select count(*) from chat_sessions where account_id = %s", (account,))
    assert planned["public.chat_sessions", "account_id"] == sessions > 0
    assert json.loads(erasure("plan", request, "--texts", "--json").stdout) == []
    assert "0 rows of others would lose words of the person's." in erasure("plan", request, "--texts").stdout
    printed = erasure("plan", request).stdout
    assert "Nothing was changed." in printed
    assert value(conn, "select count(*) from lifecycle.deletion_jobs") == 0
    assert re.search(r"not enqueued yet\W+1\b", erasure("status").stdout)
    ran = erasure("run").stdout
    assert "1 of 1 requests erased and proved" in ran
    assert "No request is due." in erasure("run").stdout
    receipt = erasure("receipt", request).stdout
    assert "The chain of all receipts is whole." in receipt
    document = json.loads(erasure("receipt", request, "--json").stdout)
    assert document["chain_unbroken"]
    (proof,) = document["receipts"]
    assert proof["hash"] in receipt
    assert proof["body"]["result"] in receipt
    assert ("Claimed and not followed" in receipt) == bool(proof["body"]["not_followed"])
    assert {r["table"]: r["rows"] for r in proof["body"]["rows"]}["public.chat_sessions"] == sessions
    assert [name for name in names if name in printed + ran + receipt + str(document)] == []
    conn.execute("update lifecycle.erasure_receipts set body = body || '{\"in_time\": false}'")
    assert "receipt 1: it was changed" in erasure("receipt", request, code=1).stdout


def test_the_sql_of_the_how_to_page_carries_a_request_out(conn: Connection) -> None:
    request = request_deletion(conn, ordinary_accounts(conn)[0])
    statements = [text for text in blocks(ROOT / "docs/how-to/erase-a-person.md", "sql") if "cron.schedule" not in text]
    assert any("process_deletion_jobs" in text for text in statements)
    for text in statements:
        conn.execute(text.replace("REQUEST_ID", request).encode())
    assert job(conn, request)["state"] == "verified"
    receipt = value(conn, "select body from lifecycle.erasure_receipts where request_id = %s", (request,))
    assert "not unpacked" in receipt["search"]["compressed"]


def test_hold_release_cancel(conn: Connection, erasure: Command) -> None:
    request = request_deletion(conn, ordinary_accounts(conn)[0])
    erasure("hold", request, "--reason", "a lawsuit", "--until", "2999-01-01")
    assert job(conn, request)["hold_until"].startswith("2999-01-01T00:00:00")
    shown = erasure("status").stdout
    assert "a lawsuit" in shown
    assert "1 requests are held" in erasure("run").stdout
    erasure("release", request)
    assert "is not held" in erasure("release", request, code=1).stderr
    erasure("cancel", request, "--reason", "asked by mistake")
    assert job(conn, request)["state"] == "cancelled"
    assert "No request is due." in erasure("run").stdout
    for unknown in (str(uuid4()), "not-an-id"):
        for command in (("plan", unknown), ("cancel", unknown, "--reason", "x")):
            assert f"no deletion request {unknown}" in erasure(*command, code=1).stderr


def test_a_run_reads_compressed_text_and_ends_with_1_when_a_request_fails(conn: Connection, erasure: Command) -> None:
    account = ordinary_accounts(conn)[0]
    request_deletion(conn, account)
    conn.execute("create table attachments (body bytea)")
    conn.execute("insert into attachments values (%s)", (packed(account),))
    failed = erasure("run", code=1)
    assert "public.attachments.body" in failed.output
    assert account not in failed.output


@pytest.mark.every_version
def test_a_list_kept_outside_finds_everybody_again_after_a_restore(
    conn: Connection,
    erasure: Command,
    make_application_db: MakeApplicationDb,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    account = ordinary_accounts(conn)[0]
    request_deletion(conn, account)
    erasure("run")
    kept = tmp_path / "suppressions"
    erasure("export", str(kept))
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0])["entries"] == len(lines) - 1 > 0
    assert account not in kept.read_text(encoding="utf-8")

    # The backup of before: the same template, so the same key, and the person in it.
    restored = make_application_db(migrated=True)
    monkeypatch.setenv(URL_VARIABLE, restored)
    (tmp_path / "cut").write_text("\n".join(lines[:-1]), encoding="utf-8")
    assert "the list is cut off" in erasure("replay", str(tmp_path / "cut"), code=1).stderr
    assert "is no suppression list" in erasure("replay", str(Path(__file__)), code=1).stderr
    assert "cannot be read" in erasure("replay", str(tmp_path / "none"), code=1).stderr
    with connect(restored) as backup:
        settle_old_requests(backup)
        assert value(backup, "select count(*) from lifecycle.suppressions") == 0
        done = erasure("replay", str(kept)).stdout
        assert f"{len(lines) - 1} entries read, {len(lines) - 1} were missing here." in done
        assert "1 requests wait" in done
        assert "0 were missing here" in erasure("replay", str(kept)).stdout
        erasure("run")
        status = "select status::text from accounts where id = %s"
        assert value(backup, status, (account,)) == "deleted"
        backup.execute("update lifecycle.erasure_secret set inner_pad = outer_pad")
    assert "nobody would be found" in erasure("replay", str(kept), code=1).stderr
