"""What the commands print in Japanese, on a real database: no sentence of English is left of what this project says."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lifecycle.access.abbreviated import parts
from lifecycle.database import Connection, value
from lifecycle.errors import RefusedError
from lifecycle.language import Phrase, set_language
from orchestration.cli.main import app
from orchestration.cli.plan_parts import COLLECT
from orchestration.cli.session import errors_as_messages
from resources.variables import LANGUAGE_VARIABLE, URL_VARIABLE
from tests.erasure_requests import job, ordinary_accounts, request_deletion
from tests.texts import english_in

pytestmark = pytest.mark.one_server
pytest_plugins = ("tests.erasure_fixtures",)

Command = Callable[..., str]


@pytest.fixture
def url(settled_url: str) -> str:
    return settled_url


@pytest.fixture
def japanese(url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command's whole output, in Japanese; what stays English is `allowed`, None where that is all of it."""
    monkeypatch.setenv(URL_VARIABLE, url)
    monkeypatch.setenv(LANGUAGE_VARIABLE, "ja")
    monkeypatch.setenv("COLUMNS", "3000")

    def run(*arguments: str, allowed: tuple[str, ...] | None = (), code: int = 0) -> str:
        result = CliRunner().invoke(app, arguments)
        set_language("")
        assert result.exit_code == code, result.output
        left = [text for line in result.output.splitlines() for text in english_in(line, allowed or ())]
        assert allowed is None or not left, (left, result.output)
        return result.output

    return run


def test_a_deletion_request_from_the_plan_to_the_receipt(conn: Connection, japanese: Command) -> None:
    request, other = (request_deletion(conn, account) for account in ordinary_accounts(conn)[:2])
    reasons = tuple(
        text for (text,) in conn.execute("select distinct reason from lifecycle.plan_erasure(%s)", (other,))
    )
    assert "何も変更していません。" in japanese("erasure", "plan", request, allowed=reasons)
    japanese("erasure", "plan", request, "--texts")
    assert "受領証はありません" in japanese("erasure", "receipt", request, code=1)
    assert "解除されるまで続きます" in japanese("erasure", "hold", other, "--reason", "訴訟")
    status = japanese("erasure", "status")
    assert f"{other}  保留、期限 " in status
    assert "訴訟" in status
    ran = japanese("erasure", "run")
    assert "1 件中 1 件のリクエスト" in ran
    assert "1 件のリクエストが保留中です" in ran
    assert job(conn, request)["state"] == "verified"
    body = conn.execute("select body from lifecycle.erasure_receipts").fetchone()
    assert body is not None
    kept = tuple(row["reason"] for row in body[0]["exemptions"])
    kinds = tuple(row["kind"].replace("_", " ") for row in body[0]["not_followed"])
    receipt = japanese("erasure", "receipt", request, allowed=(*kept, *kinds))
    for expected in ("受領証 1", "受領証の連なりはすべて保たれています。", "対象者（ハッシュ）", "削除"):
        assert expected in receipt
    # What the database keeps is of no language: a receipt's hash is over it.
    assert body[0]["result"].startswith("verified")
    assert body[0]["space"].startswith("deleted bytes")


@pytest.mark.every_version
def test_what_the_other_commands_usually_print(conn: Connection, japanese: Command, tmp_path: Path) -> None:
    account = ordinary_accounts(conn)[0]
    group = str(value(conn, "select session_id from chat_messages order by created_at limit 1"))
    planned = json.loads(japanese("plan", "--json", allowed=None))["partitions"]
    # What programs read is of no language.
    assert all(any("of free disk" in text for text in each["warnings"]) for each in planned["conversions"])
    plan = japanese("plan")
    assert "何も変更していません。" in plan
    assert "ジョブ convert_event_tables を実行" in plan
    for capability in COLLECT:
        japanese("plan", capability, allowed=("COPY table TO",))
    assert "一致しています" in japanese("check")
    assert "変更はありません" in japanese("migrate")
    assert "誰がどの行に何をできるか" in japanese("access", "matrix", allowed=words_of_the_matrix(japanese))
    assert "全行" in japanese("views")
    assert "更新の単位" in japanese("views", "refresh")
    assert "一致" in japanese("views", "compare")
    japanese("consent", "status")
    assert "同意または撤回" in japanese("consent", "apply")
    assert "日時（UTC）" in japanese("chat", "read", group, allowed=None)
    assert "行を移しました" in japanese("chat", "archive", "--accept-changed-views")
    assert "行を戻しました" in japanese("chat", "restore", "--all")
    assert "書き出しました" in japanese("person", "export", account, "--to", str(tmp_path / "export"))


def words_of_the_matrix(japanese: Command) -> tuple[str, ...]:
    """Names of roles, and in whose words the rules are: those of the declarations."""
    matrix = json.loads(japanese("access", "matrix", "--json", allowed=None))
    words = {words for row in matrix for cell in row["access"].values() for _letters, words in parts(cell)}
    return (*sorted(words - {""}, key=len, reverse=True), "authenticated ops service")


def test_an_unknown_language_ends_the_command_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGE_VARIABLE, "fr")
    result = CliRunner().invoke(app, ["erasure", "status"])
    assert result.exit_code == 2
    assert "LIFECYCLE_LANGUAGE: there is no language 'fr': name one of en, ja" in result.stderr


def test_an_error_that_quotes_a_plan_is_told_in_the_language_that_is_set(capsys: pytest.CaptureFixture[str]) -> None:
    for code, words in (("ja", "テーブルが存在しません"), ("", "the table does not exist")):
        set_language(code)
        with pytest.raises(typer.Exit), errors_as_messages():
            raise RefusedError(Phrase("the table does not exist"))
        assert capsys.readouterr().err.rstrip().endswith(words)


def test_a_missing_variable_is_told_in_the_language_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LANGUAGE_VARIABLE, "ja")
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    result = CliRunner().invoke(app, ["erasure", "status"])
    set_language("")
    assert result.exit_code == 2
    assert result.stderr.startswith("LIFECYCLE_DATABASE_URL が設定されていません。")
