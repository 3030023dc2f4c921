"""Which changes the refresh of segments notices, whose they are, and which are none of its business."""

from collections.abc import Iterator

import pytest
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, value
from lifecycle.segments.refresh import refresh_segments
from tests.conftest import MakeApplicationDb
from tests.segmented import (
    CONSENT,
    Person,
    answer,
    computed,
    disagreements,
    interact,
    make_keen_person,
    make_person,
    preferences,
    segments,
    waiting,
)


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


@pytest.fixture
def conn(db: str) -> Iterator[Connection]:
    """A session on the generator's rows, all segments computed."""
    with computed(db) as session:
        yield session


# Each a change of something that segments are made of; %s is the account.
CHANGES = {
    "a new answer": """
        insert into quiz_answers (session_id, question_ref, answer_value)
        select id, 'favorite_themes', '["nature"]' from quiz_sessions where account_id = %s""",
    "a corrected answer": """
        update quiz_answers set answer_value = '"history"' where question_ref = 'favorite_themes'
           and session_id in (select id from quiz_sessions where account_id = %s)""",
    "an answer to another question": """
        update quiz_answers set question_ref = 'shoe_size' where question_ref = 'favorite_themes'
           and session_id in (select id from quiz_sessions where account_id = %s)""",
    "a deleted answer": """
        delete from quiz_answers where session_id in (select id from quiz_sessions where account_id = %s)""",
    "a deleted quiz": "delete from quiz_sessions where account_id = %s",
    "a new interaction": """
        insert into activity_interactions (account_id, activity_slug, interaction_type)
        values (%s, 'ichijodani', 'book')""",
    "a changed interaction": """
        update activity_interactions set interaction_type = 'view'
         where interaction_type = 'book' and account_id = %s""",
    "an older interaction": """
        update activity_interactions set created_at = created_at - interval '60 days'
         where interaction_type = 'book' and account_id = %s""",
    "a deleted interaction": "delete from activity_interactions where interaction_type = 'book' and account_id = %s",
    "consent withdrawn": """
        update account_profiles
           set preferences = jsonb_set(preferences, '{consent,preferences,personalization}', 'false')
         where account_id = %s""",
    "consent deleted": "update account_profiles set preferences = preferences - 'consent' where account_id = %s",
    "a deactivated tag": "update activity_tags set is_active = false where slug = 'onsen' and %s is not null",
    "an activated tag": """
        with chosen as (insert into quiz_answers (session_id, question_ref, answer_value)
                        select id, 'atmosphere', '"quiet"' from quiz_sessions where account_id = %s)
        update activity_tags set is_active = true where slug = 'quiet'""",
    "a renamed tag": "update activity_tags set slug = 'spa' where slug = 'onsen' and %s is not null",
    "a deleted tag": "delete from activity_tags where slug = 'nature' and %s is not null",
    "a tag taken off an activity": """
        delete from activity_tag_map where %s is not null
           and activity_id = (select id from activities where slug = 'tojinbo')
           and tag_id = (select id from activity_tags where slug = 'family')""",
    "a tag put on an activity": """
        insert into activity_tag_map select a.id, t.id from activities a, activity_tags t
         where a.slug = 'tojinbo' and t.slug = 'history' and %s is not null""",
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_source_is_noticed(conn: Connection, change: str) -> None:
    person = make_keen_person(conn)
    refresh_segments(conn)
    before = segments(conn, person)
    assert before.keys() >= {"craft", "onsen", "indoor", "nature", "family"}
    assert not waiting(conn)
    conn.execute(CHANGES[change].encode(), (person.account,))
    assert waiting(conn) in ({person.account}, {None}, {person.account, None})
    refresh_segments(conn)
    assert segments(conn, person) != before
    assert disagreements(conn) == []
    assert not waiting(conn)
    if change.startswith("consent"):
        assert "segments" not in preferences(conn, person)


@pytest.mark.parametrize("table", ["quiz_answers", "activity_interactions", "activity_tag_map"])
def test_a_truncated_source_is_noticed(conn: Connection, table: str) -> None:
    conn.execute(f"truncate {table}".encode())
    assert refresh_segments(conn).written > 0
    assert disagreements(conn) == []


def test_a_slug_that_moves_takes_its_interactions_along(conn: Connection) -> None:
    person = make_person(conn)
    interact(conn, person, "tojinbo", by_slug=True)
    refresh_segments(conn)
    assert segments(conn, person)
    conn.execute("update activities set slug = 'tojinbo-old' where slug = 'tojinbo'")
    refresh_segments(conn)
    assert preferences(conn, person) == CONSENT


def test_a_quiz_that_changes_hands_changes_both_accounts(conn: Connection) -> None:
    one, other = make_keen_person(conn), make_person(conn)
    refresh_segments(conn)
    conn.execute("update quiz_sessions set account_id = %s where id = %s", (other.account, one.session))
    assert waiting(conn) == {one.account, other.account}
    refresh_segments(conn)
    assert "craft" not in segments(conn, one)
    assert segments(conn, other)["craft"] == (0.6, "quiz")


@pytest.mark.parametrize(
    "written_back", [CONSENT, CONSENT | {"segments": {"version": 1, "tags": []}}, {}, ["segments"]]
)
def test_a_profile_that_the_application_writes_back_is_repaired(
    conn: Connection, written_back: dict[str, object] | list[str]
) -> None:
    person = make_keen_person(conn)
    refresh_segments(conn)
    conn.execute(
        "update account_profiles set preferences = %s where account_id = %s",
        (Jsonb(written_back), person.account),
    )
    assert waiting(conn) == {person.account}
    refresh_segments(conn)
    assert disagreements(conn) == []
    held = value(
        conn, "select preferences #> '{segments,tags}' from account_profiles where account_id = %s", (person.account,)
    )
    assert (held is not None) == ("consent" in written_back)


def test_unrelated_updates_note_nothing(conn: Connection) -> None:
    person = make_keen_person(conn)
    refresh_segments(conn)
    for statement in (
        "update account_profiles set display_name = 'x', preferences = preferences where account_id = %s",
        "update activity_interactions set metadata = '{\"a\": 1}', score_delta = 9 where account_id = %s",
        "update quiz_sessions set status = 'abandoned', metadata = '{\"a\": 1}' where account_id = %s",
        "update accounts set status = 'suspended' where id = %s",
        "insert into activities (slug, title) select 'new', 'new' where %s is not null",
        "update quiz_answers set answer_value = answer_value"
        " where session_id in (select id from quiz_sessions where account_id = %s)",
        "update activities set title = title || '!', status = 'archived' where %s is not null",
        "update activity_tags set name = name || '!', slug = slug, color = null where %s is not null",
    ):
        conn.execute(statement.encode(), (person.account,))
    assert not waiting(conn)


def test_a_deleted_account_leaves_no_note(conn: Connection) -> None:
    person = make_keen_person(conn)
    refresh_segments(conn)
    conn.execute("delete from accounts where id = %s", (person.account,))
    assert not waiting(conn)
    gone = make_keen_person(conn)
    conn.execute("delete from accounts where id = %s", (gone.account,))
    assert waiting(conn) == {gone.account}
    assert refresh_segments(conn).accounts_seen == 1
    assert not waiting(conn)


def test_a_change_in_the_transaction_of_the_refresh_is_still_noticed(conn: Connection) -> None:
    person: Person = make_keen_person(conn)
    with conn.transaction():
        refresh_segments(conn)
        conn.execute("update account_profiles set preferences = preferences - 'segments' where account_id = %s",
                     (person.account,))  # fmt: skip
    assert waiting(conn) == {person.account}
    answer(conn, person, "favorite_themes", [])
    refresh_segments(conn)
    assert disagreements(conn) == []
