"""One setting for the language of what people read: every text has its Japanese, and English is as it was."""

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from babel.messages.pofile import read_po
from rich.cells import cell_len

from lifecycle.erasures.due import DeletionsDue, deletions_text
from lifecycle.errors import DeclarationError, RefusedError
from lifecycle.language import LANGUAGES, Phrase, _, catalogue_file, language, numbered, set_language
from lifecycle.ledger.notifications import Claim
from lifecycle.partitions.held import HOLDS
from lifecycle.review.report import LONGEST_TABLE, report_content
from orchestration.definitions import build_definitions
from sensors.messages import further_message, outage_message, outage_over_message, slack_message
from sensors.next_steps import NEXT_STEPS, next_steps
from tests.docs_pages import ROOT
from tests.test_slack import message, problem, shown
from tests.test_weekly_report import full_review
from tests.texts import all_marked_texts, english_in, placeholders

pytestmark = pytest.mark.one_server

SINCE = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
TRANSLATED = tuple(code for code in LANGUAGES if code != "en")


@pytest.fixture
def japanese() -> Iterator[None]:
    set_language("ja")
    yield
    set_language("")


@pytest.mark.parametrize("code", TRANSLATED)
def test_every_marked_text_has_its_translation_and_no_other_stands_there(code: str) -> None:
    with catalogue_file(code).open("rb") as file:
        found = read_po(file, locale=code)
    assert not found.obsolete
    known = {(entry.id if isinstance(entry.id, str) else entry.id[0]): entry for entry in found}
    marked = {texts[0]: texts for texts in all_marked_texts()}
    assert set(marked) == set(known) - {""}, "run: make catalogue, then translate what is empty"
    for first, texts in marked.items():
        entry = known[first]
        translations = entry.string if isinstance(entry.string, tuple) else (entry.string,)
        assert all(translations), first
        assert not entry.fuzzy, first
        assert all(placeholders((str(each),)) == placeholders(texts) for each in translations), first
        assert isinstance(entry.id, str) == (len(texts) == 1), first


def test_what_counts_as_english() -> None:
    assert english_in("3 件の messages wait here")
    assert english_in("Nothing was changed.")
    assert not english_in("ジョブ erase_personal_data は `lifecycle erasure run` で実行します")
    assert not english_in("SLACK 3 件 open", ())


def test_the_setting_is_read_where_definitions_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFECYCLE_LANGUAGE", "ja")
    build_definitions()
    assert (language(), _("What to do")) == ("ja", "対処")
    monkeypatch.delenv("LIFECYCLE_LANGUAGE")
    build_definitions()
    assert (language(), _("What to do")) == ("en", "What to do")


@pytest.mark.usefixtures("japanese")
def test_another_language_is_refused_by_name_and_nothing_changes() -> None:
    with pytest.raises(DeclarationError, match=r"'fr'.*en, ja"):
        set_language("fr")
    assert language() == "ja"


def test_english_counts_as_english_does() -> None:
    assert [numbered("once", "{count:,} times", count).format(count=count) for count in (1, 2, 1234)] == [
        "once",
        "2 times",
        "1,234 times",
    ]


def test_english_loads_no_catalogue() -> None:
    code = (
        "import sys, orchestration.cli.main, lifecycle.language as l; l.set_language(''); print('babel' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout == "False\n"


@pytest.mark.usefixtures("japanese")
def test_a_phrase_is_english_until_somebody_reads_it() -> None:
    held = Phrase(HOLDS["v"], holder="job", partition="{count:,}")
    assert isinstance(held, str)
    assert (held, f"{held}", json.dumps([held])) == (
        "view job holds {count:,}",
        "view job holds {count:,}",
        '["view job holds {count:,}"]',
    )
    # Names that happen to be texts of ours, too, stay names.
    assert _("job") == "ジョブ"
    for each in (held, copy.deepcopy(held)):
        assert _(each) == "ビュー job が {count:,} に依存しています"
    with pytest.raises(RefusedError, match="database: view job holds") as refused:
        raise RefusedError(Phrase("{object}: {told}", object=Phrase("the database"), told=held))
    assert _(refused.value.told) == "データベース: ビュー job が {count:,} に依存しています"
    several = Phrase("{object}: {told}", object="a", told=("job", Phrase("the database")))
    assert (several, _(several)) == ("a: job, the database", "a: job、データベース")


def claim(**values: Any) -> Claim:
    taken: dict[str, Any] = {
        "id": 1,
        "kind": "failure",
        "job": "erase_personal_data",
        "content": {"problems": [problem("")], "failures": 3},
        "created_at": SINCE,
        "closed_at": None,
        "version": 1,
        "channel": None,
        "message_ts": None,
        "attempts": 1,
        "claimed_until": SINCE,
        "in_doubt": False,
    }
    return Claim(**taken | values)


def every_slack_message() -> Iterator[dict[str, Any]]:
    causes = ["", "a_view", "run of a", "check a/b is_fresh", "stale a/b", *(f"view_{number}" for number in range(30))]
    problems = [problem(cause, "x_1", "r-1", 12) for cause in causes]
    content = {"problems": problems, "failures": 13}
    for job in (*NEXT_STEPS, "another_job"):
        yield message("failure", content, job=job)
    yield message("failure", content, closed_at=SINCE + timedelta(hours=5))
    yield message("recovery", {"since": (SINCE - timedelta(days=2)).isoformat(), "failures": 1})
    yield slack_message(claim(kind="report", content=report_content(full_review(5), "r-1")), "http://ui.example")
    yield slack_message(claim(kind="report", content={}), "http://ui.example")
    yield further_message(claim(), problems, "http://ui.example")
    yield outage_message("x_1", SINCE)
    yield outage_over_message(SINCE, SINCE + timedelta(minutes=12))


@pytest.mark.usefixtures("japanese")
def test_no_slack_message_speaks_english() -> None:
    for sent in every_slack_message():
        for text in (sent["text"], shown(sent)):
            assert not english_in(text), text


@pytest.mark.usefixtures("japanese")
def test_slack_messages_read_as_japanese_does() -> None:
    failed = message("failure", {"problems": [problem("stale a/b", "x_1", "r-1", 12)], "failures": 13})
    assert failed["text"] == "rotate_event_partitions 失敗：x_1"
    text = shown(failed)
    for expected in (
        "*古くなったアセット a/b*",
        "12 回",
        "13 回",
        "|実行を開く>",
        "*対処*",
        "docs/ja/read-an-alert.md",
    ):
        assert expected in text
    recovered = message("recovery", {"since": SINCE.isoformat(), "failures": 7})
    assert recovered["text"] == "rotate_event_partitions は復旧しました。3 時間 20 分に 7 回失敗しました"


@pytest.mark.usefixtures("japanese")
def test_the_page_that_an_alert_names_is_there() -> None:
    (page,) = [line.partition("：")[2] for line in next_steps("a_job", [""]) if "docs/" in line]
    assert (ROOT / page).is_file()


@pytest.mark.usefixtures("japanese")
def test_the_weekly_review_is_japanese_and_its_columns_stand_under_each_other() -> None:
    review = full_review(5)
    idle = replace(review, jobs=(replace(review.jobs[0], successes=0, failures=0, other_failures=3), *review.jobs[1:]))
    for each in (review, idle, replace(review, problems=())):
        content = report_content(each)
        told = "\n".join([content["title"], *content["lines"], content["table"]])
        assert not english_in(told), told
    heading, *jobs = report_content(review)["table"].splitlines()[:6]
    assert heading.split() == ["ジョブ", "成功", "失敗", "前週", "p50", "p95", "増減"]
    assert {cell_len(line) for line in (heading, *jobs)} == {cell_len(heading)}
    assert len(report_content(full_review())["table"]) <= LONGEST_TABLE


@pytest.mark.usefixtures("japanese")
def test_the_counts_of_deletion_requests() -> None:
    due = DeletionsDue(open=4, due_soon=1, overdue=1, oldest_days=35, failed=1, held=2, tried_again=1)
    assert deletions_text(due) == (
        "期限超過 1 件、7 日以内に期限 1 件、未処理 4 件（保留 2 件、失敗して再試行 1 件）、"
        "最も古いものは 35 日前、失敗して対応が必要 1 件"
    )
