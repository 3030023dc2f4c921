"""Segments while the application goes on: sources renamed, dropped and moved, places that are gone, its December."""

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from lifecycle.checking.check import check_declarations
from lifecycle.checking.mismatch import Mismatch
from lifecycle.database import Connection, connect, rows, value
from lifecycle.migrating.migrate import upgrade
from lifecycle.segments.refresh import refresh_segments, segments_status
from sandbox.application import apply_december
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.segmented import (
    Person,
    answer,
    computed,
    everybody,
    interact,
    make_keen_person,
    make_person,
    segments,
    waiting,
)

HELD = """
select account_id, preferences #> '{segments,tags}' from account_profiles where preferences ? 'segments' order by 1
"""
HELD_IN_DECEMBER = """
select id, profile #> '{preferences,segments,tags}' from accounts where profile #> '{preferences,segments}' is not null
 order by 1
"""
PROBLEMS = "select cause, error from lifecycle.open_problems where job = 'refresh_account_segments' order by 1"
OUTCOME = "select outcome, error from public.refresh_account_segments(100000)"


@pytest.fixture
def db(make_application_db: MakeApplicationDb) -> str:
    return make_application_db(migrated=True)


@pytest.fixture
def conn(db: str) -> Iterator[Connection]:
    """A session on the generator's rows, all segments computed."""
    with computed(db) as session:
        yield session


def scores_of(held: list[tuple[Any, ...]]) -> dict[Any, dict[str, float]]:
    """Tags and scores of each account."""
    return {account: {tag["slug"]: tag["score"] for tag in tags} for account, tags in held}


# What takes a source away, and what gives it back.
LOSSES = {
    "quiz_answers": (
        "alter table quiz_answers rename to old_answers",
        "alter table old_answers rename to quiz_answers",
    ),
    "quiz_results": (
        "alter table quiz_results rename column photo_subjects to subjects",
        "alter table quiz_results rename column subjects to photo_subjects",
    ),
    "interactions": (
        "alter table activity_interactions rename column interaction_type to kind",
        "alter table activity_interactions rename column kind to interaction_type",
    ),
    "items": ("alter table activity_tag_map rename to tagged", "alter table tagged rename to activity_tag_map"),
    "tags": (
        "alter table activity_tags rename column is_active to active",
        "alter table activity_tags rename column active to is_active",
    ),
}


@pytest.mark.parametrize("source", LOSSES)
def test_a_source_that_is_gone_clears_nothing_and_is_told_once(conn: Connection, source: str) -> None:
    gone, back = LOSSES[source]
    before = rows(conn, HELD)
    conn.execute(gone.encode())
    for _ in range(2):
        everybody(conn)
        outcome, error = rows(conn, OUTCOME)[0]
        assert outcome == "incomplete"
        assert f"source {source} is gone" in error
    # Who held nothing has nothing that could stay: an older answer of another source may speak for them now.
    after = dict(rows(conn, HELD))
    assert {account: after.get(account) for account, _ in before} == dict(before)
    assert f"source {source}" in dict(rows(conn, PROBLEMS))
    told = "select count(*) from audit_events where event_type = 'job_failure' and payload ->> 'object' = %s"
    assert value(conn, told, (f"source {source}",)) == 1
    assert segments_status(conn).lack is not None
    conn.execute(back.encode())
    assert rows(conn, OUTCOME) == [("success", None)]
    assert rows(conn, HELD) == before
    assert rows(conn, PROBLEMS) == []


def test_without_a_source_others_count_and_consent_still_rules(conn: Connection) -> None:
    person, other = make_keen_person(conn), make_keen_person(conn)
    refresh_segments(conn)
    before = segments(conn, person)
    conn.execute("drop table quiz_answers cascade")
    interact(conn, person, "ichijodani", "book")
    conn.execute(
        "update account_profiles set preferences = jsonb_set(preferences,"
        " '{consent,preferences,personalization}', 'false') where account_id = %s",
        (other.account,),
    )
    refresh_segments(conn)
    after = segments(conn, person)
    assert {tag for tag, (_, source) in before.items() if source != "interactions"} <= after.keys()
    assert after != before
    assert segments(conn, other) == {}


def test_a_newer_answer_replaces_that_of_a_lost_source_and_an_older_one_does_not_come_back(conn: Connection) -> None:
    person = make_person(conn)
    result = """
        insert into quiz_results (session_id, account_id, result_type, dietary_preferences, created_at)
        values (%s, %s, 'travel_type', %s, clock_timestamp() + %s::interval)"""
    conn.execute(result, (person.session, person.account, Jsonb(["vegan"]), "-1 hour"))
    answer(conn, person, "dietary_preferences", ["halal"])
    answer(conn, person, "atmosphere", "craft")
    refresh_segments(conn)
    conn.execute("drop table quiz_answers cascade")
    conn.execute("insert into lifecycle.changed_segment_accounts (account) values (%s)", (str(person.account),))
    refresh_segments(conn)
    assert segments(conn, person).keys() == {"halal", "craft"}
    conn.execute(result, (person.session, person.account, Jsonb(["vegetarian"]), "1 second"))
    refresh_segments(conn)
    assert segments(conn, person).keys() == {"vegetarian", "craft"}


def test_a_source_of_no_account_gives_nobody_anything(conn: Connection) -> None:
    """Who never had tags from it has none now."""
    conn.execute("drop table quiz_answers cascade")
    person = make_person(conn)
    interact(conn, person, "tojinbo", "book")
    refresh_segments(conn)
    assert {source for _, source in segments(conn, person).values()} == {"interactions"}


def test_a_source_that_is_declared_gone_is_not_told_and_its_tags_stay(db: str, conn: Connection) -> None:
    before = rows(conn, HELD)
    conn.execute("drop table quiz_answers cascade")
    assert rows(conn, OUTCOME)[0][0] == "incomplete"
    found = [m for m in check_declarations(conn, APPLICATION) if m.capability == "segments"]
    assert [(m.object, m.within, m.lines) for m in found] == [
        ("source quiz_answers", ("tastes", "quiz_answers"), "gone: true")
    ]
    tastes = dict(APPLICATION.segments.tastes)
    tastes["quiz_answers"] = tastes["quiz_answers"].model_copy(update={"gone": True})
    changed = APPLICATION.model_copy(update={"segments": APPLICATION.segments.model_copy(update={"tastes": tastes})})
    upgrade(db, changed)
    assert waiting(conn) == {None}
    assert rows(conn, OUTCOME) == [("success", None)]
    assert rows(conn, HELD) == before
    assert rows(conn, PROBLEMS) == []
    assert [m for m in check_declarations(conn, changed) if m.capability == "segments"] == []


ALTERATIONS = {
    "a key column renamed": "alter table activity_interactions rename column account_id to person",
    "a key column retyped": (
        "drop view if exists nothing; alter table activity_interactions drop constraint"
        " activity_interactions_account_id_fkey; drop policy if exists x on activity_interactions"
    ),
    "a compared column dropped": "alter table activity_interactions drop column activity_slug cascade",
    "a column that JSON cannot hold": (
        'alter table activity_interactions add column raw json default \'{"a": "\\u0000"}\''
    ),
    "the table of policies emptied": "delete from lifecycle.segment_watches",
    "a column added": "alter table activity_interactions add column weight numeric",
}


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_the_applications_statements_never_fail(conn: Connection, alteration: str) -> None:
    person = make_person(conn)
    conn.execute(ALTERATIONS[alteration].encode())
    key = "person" if "renamed" in alteration else "account_id"
    slug = "" if "dropped" in alteration else "activity_slug, "
    text = "" if "dropped" in alteration else "'tojinbo', "
    conn.execute(
        f"insert into activity_interactions ({key}, {slug}interaction_type) values (%s, {text}'view')".encode(),
        (person.account,),
    )
    update = f"update activity_interactions set metadata = '{{\"x\": 1}}' where {key} = %s"
    assert conn.execute(update.encode(), (person.account,)).rowcount == 1
    assert conn.execute(f"delete from activity_interactions where {key} = %s".encode(), (person.account,)).rowcount == 1
    conn.execute("truncate activity_interactions")
    assert None in waiting(conn)


def test_a_row_whose_owner_cannot_be_read_asks_for_everybody(conn: Connection) -> None:
    person = make_person(conn)
    refresh_segments(conn)
    conn.execute('alter table activity_interactions add column raw json default \'{"a": "\\u0000"}\'')
    interact(conn, person, "tojinbo")
    assert waiting(conn) == {None}


def test_segments_without_a_place(db: str, conn: Connection) -> None:
    conn.execute("alter table account_profiles rename to profiles")
    for _ in range(2):
        everybody(conn)
        outcome, error = rows(conn, OUTCOME)[0]
        assert outcome == "incomplete"
        assert "none of the declared targets exists" in error
    assert [cause for cause, _ in rows(conn, PROBLEMS)] == ["target"]
    assert refresh_segments(conn).lack
    assert any("none of them exists" in m.told for m in lacking(conn))
    conn.execute("alter table profiles rename to account_profiles")
    assert rows(conn, OUTCOME) == [("success", None)]
    assert rows(conn, PROBLEMS) == []
    upgrade(db, APPLICATION)


def lacking(conn: Connection) -> list[Mismatch]:
    return [m for m in check_declarations(conn, APPLICATION) if m.capability in ("segments", "views")]


@pytest.mark.every_version
def test_december(db: str, conn: Connection) -> None:
    """Profiles move into accounts, quizzes into one table; three tables go. Nobody loses a tag, and it is told."""
    person = make_keen_person(conn)
    refresh_segments(conn)
    before = scores_of(rows(conn, HELD))
    apply_december(db)
    outcome, error = rows(conn, OUTCOME)[0]
    assert outcome == "incomplete"
    for lost in ("source quiz_results is gone", "source quiz_answers is gone", "changes of public.quiz_sessions"):
        assert lost in error
    after = scores_of(rows(conn, HELD_IN_DECEMBER))
    assert before.keys() <= after.keys()
    # This person's quiz had no result, so that nothing of it was moved: all that is known of it is what was held.
    assert after[person.account] == before[person.account]
    moved = {account for (account,) in rows(conn, "select distinct account_id from quiz_sessions")}
    assert all(after[account] == tags for account, tags in before.items() if account not in moved)
    assert {m.object for m in lacking(conn)} >= {
        "source quiz_results", "source quiz_answers", "public.quiz_sessions"
    }  # fmt: skip
    upgrade(db, APPLICATION)
    assert "public.quiz_sessions" not in {m.object for m in lacking(conn)}
    refresh_segments(conn)
    insert = """insert into quiz_sessions (account_id, answers, completed_at)
                values (%s, '{"favorite_themes": ["history"]}', now())"""
    conn.execute(insert.encode(), (person.account,))
    assert waiting(conn) == {person.account}
    refresh_segments(conn)
    held = value(conn, "select profile #> '{preferences,segments,tags}' from accounts where id = %s", (person.account,))
    tags = {tag["slug"] for tag in held}
    # The new answer to that question replaces what the lost source said to it; what it said to others stays.
    assert {"history", "indoor"} <= tags
    assert "craft" not in tags
    recommended = "select count(*) from recommend_activities(%s)"
    assert value(conn, recommended, (person.account,)) > 0
    profile = """update accounts set profile = jsonb_set(profile,
                 '{preferences,consent,preferences,personalization}', 'false') where id = %s"""
    conn.execute(profile.encode(), (person.account,))
    assert value(conn, recommended, (person.account,)) == 0
    assert refresh_segments(conn).cleared == 1


@pytest.mark.every_version
def test_adopted_in_december_nothing_is_missed(make_application_db: MakeApplicationDb) -> None:
    with connect(make_application_db(migrated=True, december=True)) as conn:
        assert refresh_segments(conn).lack is None
        assert segments_status(conn).with_segments > 0
        assert lacking(conn) == []


def test_a_person_known_by_an_answer_only(conn: Connection) -> None:
    """The way to the account leads through another table; a deleted answer still finds it."""
    person: Person = make_person(conn)
    answer(conn, person, "favorite_themes", ["craft"])
    refresh_segments(conn)
    assert "craft" in segments(conn, person)
    conn.execute("delete from quiz_answers where session_id = %s", (person.session,))
    assert waiting(conn) == {person.account}
