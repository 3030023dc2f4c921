"""The weekly review, the check whose failure is an alert, and `lifecycle erasure status` tell the same of a failed, a
held and an overdue request; so do the pages, and what they advise can be pasted.
"""

import re
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from assets.review import deletions_result
from lifecycle.database import Connection, rows, value
from lifecycle.erasures.due import DeletionsDue, deletions_due
from lifecycle.review.report import report_lines
from lifecycle.review.weekly import weekly_review
from orchestration.cli.main import app
from resources.variables import URL_VARIABLE
from tests.declared import APPLICATION
from tests.erasure_requests import ordinary_accounts, request_deletion

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.erasure_fixtures",)
RUNNER = CliRunner()
FAIL = """
select lifecycle.fail_deletion_jobs(array[id], 'something is left', false)
  from lifecycle.deletion_jobs where request_id = %s
"""


@pytest.fixture
def url(settled_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv(URL_VARIABLE, settled_url)
    monkeypatch.setenv("COLUMNS", "80")
    return settled_url


def erasure(*arguments: str) -> str:
    result = RUNNER.invoke(app, ["erasure", *arguments])
    assert result.exit_code == 0, result.output + result.stderr
    return result.stdout


def told_everywhere(conn: Connection) -> str:
    """The counts, after every place was found to tell the same ones."""
    now = datetime.now(UTC)
    review = next(line for line in report_lines(weekly_review(conn, APPLICATION, now)) if "Deletion requests:" in line)
    told = review.removeprefix("Deletion requests: ")
    assert deletions_result(deletions_due(conn, now)).description == told
    assert told in " ".join(erasure("status").split())
    return told


def test_failed_held_and_overdue_requests_are_told_alike(conn: Connection) -> None:
    assert told_everywhere(conn) == "0 overdue, 0 due within 7 days, 0 open"
    failed, again, held, overdue, before = (request_deletion(conn, each) for each in ordinary_accounts(conn)[:5])
    conn.execute("update data_deletion_requests set status = 'failed' where id::text = %s", (before,))
    conn.execute("select public.enqueue_deletion_jobs()")
    for request, attempts in ((failed, 5), (again, 1)):
        conn.execute(
            "update lifecycle.deletion_jobs set state = 'running', attempts = %s where request_id = %s",
            (attempts, request),
        )
        conn.execute(FAIL.encode(), (request,))
    conn.execute(
        "update lifecycle.deletion_jobs set due_at = now() - interval '1 day' where request_id = %s", (overdue,)
    )
    erasure("hold", held, "--reason", "a lawsuit", "--until", "2999-01-01")

    counted = (
        "1 overdue, 0 due within 7 days, 4 open (1 held, 1 failed and tried again), oldest 0 days, "
        "2 failed and need a person"
    )
    assert told_everywhere(conn) == counted
    # An alert for each request that failed, and for no other.
    problems = "select cause from lifecycle.open_problems where job = 'erase_personal_data'"
    assert {cause for (cause,) in rows(conn, problems)} == {f"request {failed}", f"request {again}"}
    printed = erasure("status").splitlines()
    ids = [line.split()[0] for line in printed if re.match(r"[0-9a-f-]{36}  ", line)]
    # Those that need a person first, then by deadline; no id is broken.
    assert set(ids[:2]) == {failed, before}
    assert ids[2] == overdue
    assert set(ids) == {failed, again, held, overdue, before}
    assert any(line.startswith(f"{failed}  failed, needs a person, due ") for line in printed)
    assert printed[printed.index(next(line for line in printed if line.startswith(held))) + 1] == (
        "    held until 2999-01-01 00:00 UTC: a lawsuit"
    )

    # What is advised for the one that failed before this project came is pasted as it stands.
    (advised,) = [line.partition("to try it: ")[2] for line in printed if "to try it: " in line]
    assert conn.execute(advised.encode()).rowcount == 1
    conn.execute("select public.enqueue_deletion_jobs()")
    assert value(conn, "select state from lifecycle.deletion_jobs where request_id = %s", (before,)) == "queued"
    assert told_everywhere(conn).endswith(
        "5 open (1 held, 1 failed and tried again), oldest 0 days, 1 failed and needs a person"
    )


def test_a_hold_tells_its_end_and_warns_past_the_deadline(conn: Connection) -> None:
    request = request_deletion(conn, ordinary_accounts(conn)[0])
    soon, late = (datetime.now(UTC) + timedelta(days=days) for days in (2, 60))
    told = erasure("hold", request, "--reason", "a doubt", "--until", f"{soon:%Y-%m-%d}")
    assert told == f"Request {request} is held until {soon:%Y-%m-%d} 00:00 UTC.\n"
    due = value(conn, "select due_at from lifecycle.deletion_jobs where request_id = %s", (request,))
    told = erasure("hold", request, "--reason", "a lawsuit", "--until", f"{late:%Y-%m-%d}")
    assert f"held until {late:%Y-%m-%d} 00:00 UTC" in told
    assert f"Warning: the hold ends after the request's deadline, {due:%Y-%m-%d %H:%M} UTC" in told
    told = erasure("hold", request, "--reason", "a lawsuit")
    assert "until somebody releases it" in told
    assert f"Its deadline goes on: {due:%Y-%m-%d %H:%M} UTC" in told
    assert "held until somebody releases it: a lawsuit" in erasure("status")


def test_one_request_needs_and_two_need() -> None:
    for failed, word in ((1, "1 failed and needs a person"), (2, "2 failed and need a person")):
        assert (
            deletions_result(DeletionsDue(failed=failed)).description
            == f"0 overdue, 0 due within 7 days, 0 open, {word}"
        )
