"""The refresh of segments: what it computes and writes, what it leaves alone, how it reports."""

import json
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from jsonschema import Draft202012Validator  # comes with dagster-dg-cli
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, connect, rows, value
from lifecycle.errors import RefreshError
from lifecycle.migrating.migrate import upgrade
from lifecycle.segments.refresh import SegmentRefresh, refresh_segments, segments_status
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.segmented import (
    CONSENT,
    answer,
    computed,
    disagreements,
    everybody,
    make_keen_person,
    make_person,
    preferences,
    profiles,
    segments,
    waiting,
)

SCHEMA = Path(__file__).parents[1] / "docs/reference/segments.schema.json"


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


@pytest.fixture
def conn(db: str) -> Iterator[Connection]:
    """A session on the generator's rows, all segments computed."""
    with computed(db) as session:
        yield session


def test_the_first_refresh_computes_every_account_that_consented(db: str) -> None:
    with connect(db) as conn:
        assert waiting(conn) == {None}
        result = refresh_segments(conn)
        status = segments_status(conn)
        assert disagreements(conn) == []
        computed = value(
            conn,
            "select count(*) from lifecycle.compute_segments(array(select account_id::text from account_profiles))",
        )
        assert result.written == status.with_segments == computed > 100
        assert result.accounts_seen == status.consented < value(conn, "select count(*) from account_profiles")
        assert (status.without_consent, status.waiting, status.oldest_waiting) == (0, 0, None)
        # "quiet" is a tag, and a choice in the quiz, that the generator makes inactive.
        assert "quiet" not in dict(status.accounts_per_tag)
        assert dict(status.accounts_per_tag)["craft"] == value(
            conn,
            'select count(*) from account_profiles where preferences @> \'{"segments":{"tags":[{"slug":"craft"}]}}\'',
        )


def test_every_document_is_valid_and_in_order(conn: Connection) -> None:
    validator = Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    documents = [row[0] for row in rows(conn, "select preferences -> 'segments' from account_profiles") if row[0]]
    assert {tag["source"] for document in documents for tag in document["tags"]} == {"quiz", "interactions", "both"}
    for document in documents:
        validator.validate(document)
        ranks = [(-tag["score"], tag["slug"]) for tag in document["tags"]]
        assert ranks == sorted(ranks)
        assert len({slug for _, slug in ranks}) == len(ranks)
    assert not validator.is_valid(documents[0] | {"version": 2})


def test_a_refresh_without_a_change_writes_nothing(conn: Connection) -> None:
    before = profiles(conn)
    assert refresh_segments(conn) == SegmentRefresh(batches=1)
    everybody(conn)
    result = refresh_segments(conn)
    assert (result.written, result.cleared, result.unchanged) == (0, 0, result.accounts_seen)
    assert result.accounts_seen > 100
    assert profiles(conn) == before


def test_other_keys_and_other_accounts_stay_as_they_are(conn: Connection) -> None:
    before = {row[0]: row for row in profiles(conn)}
    person = make_keen_person(conn)
    assert refresh_segments(conn).written == 1
    assert {key: held for key, held in preferences(conn, person).items() if key != "segments"} == CONSENT
    assert {row[0]: row for row in profiles(conn) if row[0] != person.account} == before


def test_segments_that_stand_where_no_consent_is_are_taken_away(conn: Connection) -> None:
    person = make_person(conn, {"segments": {"version": 1, "tags": []}, "display": {}})
    refresh = refresh_segments(conn)
    assert (refresh.written, refresh.cleared) == (0, 1)
    assert preferences(conn, person) == {"display": {}}


def test_batches_take_everybody_once(db: str) -> None:
    with connect(db) as conn:
        seen: list[tuple[str, float]] = []
        result = refresh_segments(conn, batch_size=40, progress=lambda message, part: seen.append((message, part)))
        assert result.batches == len(seen) == result.accounts_seen // 40 + 1
        assert [part for _, part in seen] == sorted(part for _, part in seen)
        assert seen[-1][1] == 1
        assert disagreements(conn) == []
        call = rows(conn, "select accounts_seen, remaining from refresh_account_segments(40)")
        assert call == [(0, 0)]
        everybody(conn)
        (seen_once, remaining) = rows(conn, "select accounts_seen, remaining from refresh_account_segments(40)")[0]
        assert (seen_once, remaining) == (40, result.accounts_seen - 40)


@pytest.mark.parametrize("size", [0, -1, None])
def test_a_batch_of_nobody_is_refused(conn: Connection, size: int | None) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="batch_size"):
        conn.execute("select * from refresh_account_segments(%s)", (size,))


def test_an_empty_database(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(rows=False, migrated=True)) as conn:
        assert refresh_segments(conn) == SegmentRefresh(batches=1)
        assert segments_status(conn).accounts_per_tag == ()
        assert not waiting(conn)


def test_every_call_is_one_row_of_the_ledger_without_personal_data(conn: Connection) -> None:
    person = make_keen_person(conn)
    conn.execute("delete from audit_events")
    refresh_segments(conn)
    ((kind, payload),) = rows(
        conn, "select event_type, payload from audit_events where entity_id = 'refresh_account_segments'"
    )
    assert kind == "job_success"
    assert payload.pop("duration_ms") >= 0
    assert payload == {
        "accounts_seen": 1, "written": 1, "cleared": 0, "unchanged": 0, "skipped_busy": 0, "remaining": 0,
        "object": None, "error": None, "incomplete": None,
    }  # fmt: skip
    assert str(person.account) not in json.dumps(payload)


def test_an_error_undoes_the_batch_and_is_told(db: str) -> None:
    with connect(db) as conn:
        conn.execute("delete from lifecycle.segment_policy")
        with pytest.raises(RefreshError, match="segment_policy is empty"):
            refresh_segments(conn)
        outcome = rows(conn, "select outcome, error, accounts_seen from refresh_account_segments()")
        assert outcome == [("failure", "lifecycle.segment_policy is empty", None)]
        assert segments_status(conn).with_segments == 0
        assert waiting(conn) == {None}
        problem = rows(conn, "select job, error, times from lifecycle.open_problems")
        assert problem == [("refresh_account_segments", "lifecycle.segment_policy is empty", 2)]
        failures = "select count(*) from audit_events where event_type = 'job_failure' and entity_id = %s"
        assert value(conn, failures, ("refresh_account_segments",)) == 2
        conn.execute("delete from lifecycle.migrated_declarations")
        upgrade(db, APPLICATION)
        assert refresh_segments(conn).written > 0
        assert rows(conn, "select * from lifecycle.open_problems") == []


def test_changed_declarations_ask_for_everybody_and_repeated_ones_for_nobody(db: str, conn: Connection) -> None:
    upgrade(db, APPLICATION)
    assert not waiting(conn)
    other = APPLICATION.segments.model_copy(update={"taste_weight": 0.5, "version": 7})
    upgrade(db, APPLICATION.model_copy(update={"segments": other}))
    assert waiting(conn) == {None}
    result = refresh_segments(conn)
    assert result.written == segments_status(conn).with_segments > 0
    assert rows(conn, "select distinct preferences #> '{segments,version}' from account_profiles"
                      " where preferences ? 'segments'") == [(7,)]  # fmt: skip
    assert disagreements(conn) == []


def test_tastes_come_from_results_and_the_newest_answer_to_a_question_wins(conn: Connection) -> None:
    person = make_person(conn)
    result = """
        insert into quiz_results (session_id, account_id, result_type, dietary_preferences, photo_subjects, created_at)
        values (%s, %s, 'travel_type', %s, %s, now() - interval '1 minute')"""
    conn.execute(result, (person.session, person.account, Jsonb(["vegan", "none"]), Jsonb(["nature"])))
    assert waiting(conn) == {person.account}
    refresh_segments(conn)
    assert segments(conn, person) == {"nature": (0.6, "quiz"), "vegan": (0.6, "quiz")}
    answer(conn, person, "dietary_preferences", ["halal"])
    refresh_segments(conn)
    assert segments(conn, person).keys() == {"halal", "nature"}
    held = preferences(conn, person)["segments"]["tags"]
    assert {tag["slug"]: tag["tastes"] for tag in held} == {
        "halal": ["dietary_preferences"],
        "nature": ["photo_subjects"],
    }
    answers = preferences(conn, person)["segments"]["answers"]
    assert {question: given["source"] for question, given in answers.items()} == {
        "dietary_preferences": "quiz_answers", "photo_subjects": "quiz_results"
    }  # fmt: skip
    conn.execute("update quiz_results set photo_subjects = null where account_id = %s", (person.account,))
    refresh_segments(conn)
    assert segments(conn, person).keys() == {"halal"}
