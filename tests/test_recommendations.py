"""The recommendation read: the cache's answer is the computation's, and each role sees what it may."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, rows, value
from lifecycle.segments.refresh import refresh_segments
from tests.conftest import AsRole, MakeApplicationDb
from tests.segmented import (
    CONSENT,
    Person,
    computed,
    disagreements,
    make_keen_person,
    make_person,
    preferences,
    segments,
    waiting,
)

pytestmark = pytest.mark.one_server

READ = "select slug, score, matched_tags from public.recommend_activities(%s, %s)"
OFFERED = """
select a.slug, array_agg(t.slug) from activities a
  join activity_tag_map m on m.activity_id = a.id join activity_tags t on t.id = m.tag_id
 where a.status = 'published' and a.is_active group by a.slug
"""
# Both answers for every account, in full; empty when they are the same in the same order.
DIFFERENCES = """
select p.account_id from account_profiles p
 where array(select r from recommend_activities(p.account_id, 1000) r)::text
       <> array(select r from lifecycle.recommend_activities_uncached(p.account_id, 1000) r)::text
"""


@pytest.fixture(
    params=[True, pytest.param(False, marks=pytest.mark.every_version)], ids=["auto_grant", "explicit_grants"]
)
def db(make_application_db: MakeApplicationDb, request: pytest.FixtureRequest) -> str:
    return make_application_db(migrated=True, auto_grant=request.param)


@pytest.fixture
def conn(db: str) -> Iterator[Connection]:
    with computed(db) as session:
        yield session


@pytest.fixture
def refreshed(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    with computed(make_application_db(migrated=True)) as session:
        yield session


def test_the_cache_answers_as_the_computation_does(refreshed: Connection) -> None:
    assert rows(refreshed, DIFFERENCES) == []
    answered = "select count(*) from account_profiles p where exists (select from recommend_activities(p.account_id))"
    held = value(refreshed, "select count(*) from account_profiles where preferences ? 'segments'")
    assert 0 < value(refreshed, answered) <= held


def test_the_best_come_first_and_only_what_is_on_offer(refreshed: Connection) -> None:
    person = make_keen_person(refreshed)
    refresh_segments(refreshed)
    scores = {slug: score for slug, (score, _) in segments(refreshed, person).items()}
    found = rows(refreshed, READ, (person.account, 1000))
    offered = dict(rows(refreshed, OFFERED))
    expected = {slug: sum(scores.get(tag, 0) for tag in tags) for slug, tags in offered.items()}
    assert {slug: float(score) for slug, score, _ in found} == pytest.approx(
        {slug: score for slug, score in expected.items() if score}
    )
    ranks = [(-score, slug) for slug, score, _ in found]
    assert [rank for rank, _ in ranks] == sorted(rank for rank, _ in ranks)
    for slug, _, matched in found:
        assert matched == sorted(set(offered[slug]) & scores.keys(), key=lambda tag: (-scores[tag], tag))


@pytest.mark.parametrize(("limit", "count"), [(3, 3), (0, 0), (-5, 0), (None, 10), (1, 1)])
def test_limits(refreshed: Connection, limit: int | None, count: int) -> None:
    person = make_keen_person(refreshed)
    refresh_segments(refreshed)
    assert len(rows(refreshed, READ, (person.account, limit))) == count
    assert len(rows(refreshed, "select * from recommend_activities(%s)", (person.account,))) == 10
    assert rows(refreshed, READ, (None, limit)) == []


def test_withdrawn_consent_counts_before_the_next_refresh(refreshed: Connection) -> None:
    person = make_keen_person(refreshed)
    refresh_segments(refreshed)
    assert rows(refreshed, READ, (person.account, 5))
    refreshed.execute(
        "update account_profiles set preferences = jsonb_set(preferences,"
        " '{consent,preferences,personalization}', 'false') where account_id = %s",
        (person.account,),
    )
    assert segments(refreshed, person)
    assert rows(refreshed, READ, (person.account, 5)) == []


@pytest.mark.parametrize("held", [
    7, "x", [], {}, {"tags": 7}, {"tags": {"slug": "craft"}}, {"tags": [1, None, [], {"slug": "craft"}]},
    {"tags": [{"slug": "craft", "score": "much"}, {"slug": 3, "score": 1}, {"slug": None, "score": None}]},
])  # fmt: skip
def test_what_an_owner_wrote_there_breaks_neither_read_nor_refresh(refreshed: Connection, held: object) -> None:
    person = make_keen_person(refreshed)
    refreshed.execute(
        "update account_profiles set preferences = %s where account_id = %s",
        (Jsonb(CONSENT | {"segments": held}), person.account),
    )
    assert rows(refreshed, READ, (person.account, 5)) == []
    refresh_segments(refreshed)
    assert disagreements(refreshed) == []
    assert rows(refreshed, READ, (person.account, 5))


def test_signed_in_people_see_their_own_and_nobody_elses(db: str, conn: Connection, as_role: AsRole) -> None:
    me, other = make_keen_person(conn), make_keen_person(conn)
    refresh_segments(conn)
    expected = rows(conn, READ, (me.account, 5))
    with as_role(db, "authenticated", {"sub": str(me.user)}) as session:
        assert rows(session, READ, (me.account, 5)) == expected != []
        assert rows(session, READ, (other.account, 5)) == []
    with as_role(db, "authenticated") as session:
        assert rows(session, READ, (me.account, 5)) == []
    with as_role(db, "service_role") as session:
        assert rows(session, READ, (other.account, 5)) == rows(conn, READ, (other.account, 5)) != []


@pytest.mark.parametrize("call", [
    "select * from public.recommend_activities(gen_random_uuid())", "select * from public.refresh_account_segments()",
    "select * from lifecycle.recommend_activities_uncached(gen_random_uuid())",
    "select * from lifecycle.changed_segment_accounts", "insert into lifecycle.changed_segment_accounts default values",
    "select * from lifecycle.segment_policy",
])  # fmt: skip
def test_what_is_refused(db: str, conn: Connection, as_role: AsRole, call: str) -> None:
    person = make_keen_person(conn)
    for role in ("anon", "authenticated", "service_role"):
        if "public.recommend" in call and role != "anon":
            continue
        with (
            pytest.raises(psycopg.errors.InsufficientPrivilege),
            as_role(db, role, {"sub": str(person.user)}) as session,
        ):
            session.execute(call.encode())


def test_who_may_execute_what(conn: Connection) -> None:
    may = "select array(select r from unnest(array['anon', 'authenticated', 'service_role']) r \
           where has_function_privilege(r, %s, 'execute'))"
    assert value(conn, may, ("public.recommend_activities(uuid, int)",)) == ["authenticated", "service_role"]
    assert not {"anon", "authenticated"} & set(value(conn, may, ("public.refresh_account_segments(int)",)))


OWN_WRITES = ("insert into", "update activity_interactions", "update account_profiles")


def writes(person: Person) -> list[tuple[str, tuple[object, ...]]]:
    """What the application does with the watched tables."""
    return [
        ("insert into quiz_sessions (account_id) values (%s)", (person.account,)),
        ("insert into quiz_answers (session_id, question_ref, answer_value) values (%s, 'atmosphere', '\"quiet\"')",
         (person.session,)),
        ("update quiz_answers set answer_value = '[\"nature\"]' where session_id = %s", (person.session,)),
        ("insert into activity_interactions (account_id, activity_slug, interaction_type)"
         " values (%s, 'tojinbo', 'view')", (person.account,)),
        ("update activity_interactions set interaction_type = 'share' where account_id = %s"
         " and interaction_type = 'view'", (person.account,)),
        ("delete from activity_interactions where account_id = %s and interaction_type = 'share'", (person.account,)),
        ("update account_profiles set preferences = preferences - 'segments' where account_id = %s", (person.account,)),
        ("delete from quiz_answers where session_id = %s", (person.session,)),
        ("delete from quiz_sessions where id = %s", (person.session,)),
    ]  # fmt: skip


@pytest.mark.parametrize("role", ["authenticated", "service_role"])
def test_ordinary_writes_of_the_api_work_and_are_noticed(db: str, conn: Connection, as_role: AsRole, role: str) -> None:
    person = make_keen_person(conn)
    refresh_segments(conn)
    for statement, values in writes(person):
        if role == "authenticated" and not statement.startswith(OWN_WRITES):
            continue  # row-level security lets them through to nothing
        with as_role(db, role, {"sub": str(person.user)}) as session:
            assert session.execute(statement.encode(), values).rowcount > 0, statement
        assert waiting(conn) == {person.account}, statement
        refresh_segments(conn)
        assert disagreements(conn) == []


def test_a_profile_made_by_the_api_is_noticed(db: str, conn: Connection, as_role: AsRole) -> None:
    account, user = rows(conn, "insert into accounts default values returning id, gen_random_uuid()")[0]
    conn.execute("insert into account_linkages (account_id, supabase_user_id) values (%s, %s)", (account, user))
    with as_role(db, "service_role") as session:
        session.execute("insert into account_profiles (account_id, preferences) values (%s, %s)",
                        (account, Jsonb(CONSENT)))  # fmt: skip
    assert waiting(conn) == {account}
    refresh_segments(conn)
    # Nothing is known of this person yet.
    assert preferences(conn, Person(account, account, user)) == CONSENT


def test_tags_changed_by_the_api_ask_for_everybody(db: str, conn: Connection, as_role: AsRole) -> None:
    make_person(conn)
    refresh_segments(conn)
    with as_role(db, "service_role") as session:
        session.execute("update activity_tags set is_active = false where slug = 'craft'")
        session.execute(
            "delete from activity_tag_map where tag_id = (select id from activity_tags where slug = 'nature')"
        )
    assert waiting(conn) == {None}
    refresh_segments(conn)
    assert disagreements(conn) == []
    assert rows(conn, DIFFERENCES) == []
