"""The score of segments against a plain reference in Python, and JSON that the application never meant."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from lifecycle.database import Connection, connect, rows
from lifecycle.segments.refresh import refresh_segments
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION
from tests.segmented import Person, answer, disagreements, interact, make_person, segments

pytestmark = pytest.mark.one_server

TAGS = ("a", "b", "c", "d", "sleeping")
SEGMENTS = APPLICATION.segments
assert SEGMENTS.interactions is not None
WEIGHTS = SEGMENTS.interactions.weights
HALF_LIFE = timedelta(days=int(SEGMENTS.interactions.half_life.split()[0]))
QUESTIONS = ("dietary_preferences", "favorite_themes", "atmosphere")
# Rounding to four places, once here and once there.
TOLERANCE = 1.01e-4
NOW = datetime(2026, 11, 24, tzinfo=UTC)
ACTIVITY = """
with activity as (insert into activities (slug, title) values (%s, 'x') returning id)
insert into activity_tag_map select a.id, t.id from activity a, activity_tags t where t.slug = any (%s::text[])
"""
INTERACTION = """
insert into activity_interactions (account_id, activity_id, activity_slug, interaction_type, created_at)
select %s, case when not %s then id end, slug, %s::interaction_type, %s from activities where slug = %s
"""
ANSWER = "insert into quiz_answers (session_id, question_ref, answer_value, answered_at) values (%s, %s, %s, %s)"

activities = st.lists(st.sets(st.sampled_from(TAGS)), min_size=1, max_size=4)
interactions = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(sorted(WEIGHTS)),
        st.integers(0, 400 * 24),
        st.booleans(),
    ),
    max_size=8,
)
answers = st.lists(
    st.tuples(
        st.sampled_from([*QUESTIONS, "shoe_size"]),
        st.one_of(st.lists(st.sampled_from([*TAGS, "none"]), max_size=3), st.sampled_from([*TAGS, "none"])),
    ),
    max_size=6,
)

Interactions = list[tuple[int, str, int, bool]]
Answers = list[tuple[str, Any]]


def reference(tagged: list[set[str]], done: Interactions, answered: Answers) -> dict[str, tuple[float, str]]:
    """Scores as the explanation describes them, before rounding."""
    latest = {question: value for question, value in answered if question in QUESTIONS}
    chosen = {slug for value in latest.values() for slug in ([value] if isinstance(value, str) else value)}
    tastes = {slug for slug in chosen if slug in TAGS and slug != "sleeping"}
    strength: dict[str, float] = defaultdict(float)
    for number, kind, hours_ago, _ in done:
        tags = tagged[number % len(tagged)] - {"sleeping"}
        for tag in tags:
            age = timedelta(hours=hours_ago) / HALF_LIFE
            strength[tag] += WEIGHTS[kind] / len(tags) * 0.5**age
    strongest = max(strength.values(), default=1)
    scores = {}
    for slug in tastes | strength.keys():
        score = SEGMENTS.taste_weight * (slug in tastes) + SEGMENTS.interaction_weight * strength[slug] / strongest
        source = "both" if slug in tastes and strength[slug] else "quiz" if slug in tastes else "interactions"
        scores[slug] = (score, source)
    return scores


@pytest.fixture
def conn(make_application_db: MakeApplicationDb) -> Iterator[Connection]:
    with connect(make_application_db(rows=False, migrated=True)) as session:
        session.execute("insert into activity_tags (slug, name, is_active) select s, s, s <> 'sleeping'"
                        " from unnest(%s::text[]) s", (list(TAGS),))  # fmt: skip
        yield session


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tagged=activities, done=interactions, answered=answers)
def test_scores_are_those_of_the_reference(
    conn: Connection, tagged: list[set[str]], done: Interactions, answered: Answers
) -> None:
    with conn.transaction(force_rollback=True):
        person = make_person(conn)
        for number, tags in enumerate(tagged):
            conn.execute(ACTIVITY.encode(), (f"activity-{number}", list(tags)))
        for number, kind, hours_ago, by_slug in done:
            # A second like of one activity is refused where its id is known; by slug it is not.
            by_slug = by_slug or kind in ("like", "bookmark", "ai_save")
            when, slug = NOW - timedelta(hours=hours_ago), f"activity-{number % len(tagged)}"
            conn.execute(INTERACTION.encode(), (person.account, by_slug, kind, when, slug))
        for place, (question, chosen) in enumerate(answered):
            when = NOW + timedelta(seconds=place)
            conn.execute(ANSWER.encode(), (person.session, question, Jsonb(chosen), when))
        refresh_segments(conn)
        computed = segments(conn, person)
        expected = reference(tagged, done, answered)
        for slug in computed.keys() | expected.keys():
            score, source = computed.get(slug, (0, None))
            wanted, wanted_source = expected.get(slug, (0, None))
            assert score == pytest.approx(wanted, abs=TOLERANCE), slug
            assert source == wanted_source or wanted < TOLERANCE, slug


@pytest.fixture
def person(conn: Connection) -> Person:
    return make_person(conn)


@pytest.mark.parametrize(
    ("given_answer", "tags"),
    [
        ("a", {"a"}), (["a", "b", "a"], {"a", "b"}), ([], set()), ("", set()), (None, set()), (7, set()), (True, set()),
        ({"a": "b"}, set()), ([["a"]], set()), ([None, 1, {"a": 1}, "b"], {"b"}), ("A", set()), ("a'; --", set()),
        ("sleeping", set()), ("🦖", set()),
    ],
)  # fmt: skip
def test_only_slugs_of_active_tags_count(
    conn: Connection, person: Person, given_answer: object, tags: set[str]
) -> None:
    answer(conn, person, "dietary_preferences", given_answer)
    refresh_segments(conn)
    assert segments(conn, person) == dict.fromkeys(tags, (0.6, "quiz"))


def test_the_latest_answer_over_all_sessions_counts(conn: Connection, person: Person) -> None:
    answer(conn, person, "dietary_preferences", "a")
    answer(conn, person, "atmosphere", "d")
    later = rows(conn, "insert into quiz_sessions (account_id) values (%s) returning id", (person.account,))[0][0]
    answer(conn, Person(person.account, later, person.user), "dietary_preferences", ["b", "c"])
    refresh_segments(conn)
    assert segments(conn, person).keys() == {"b", "c", "d"}


@pytest.mark.parametrize("moment", ["infinity", "-infinity", "4713-01-01 BC", "294276-12-31"])
def test_moments_that_no_clock_shows_break_nothing(conn: Connection, person: Person, moment: str) -> None:
    conn.execute("insert into activities (slug, title) values ('x', 'x'), ('y', 'y')")
    conn.execute("insert into activity_tag_map select a.id, t.id from activities a join activity_tags t"
                 " on (a.slug, t.slug) in (('x', 'a'), ('y', 'b'))")  # fmt: skip
    interact(conn, person, "x")
    interact(conn, person, "y")
    conn.execute("update activity_interactions set created_at = %s::timestamptz where activity_slug = 'y'", (moment,))
    refresh_segments(conn)
    strongest = "b" if moment.startswith("294276") else "a"
    assert segments(conn, person) == {strongest: (0.4, "interactions")}
    assert disagreements(conn) == []


def test_time_alone_changes_nothing(conn: Connection, person: Person) -> None:
    conn.execute("insert into activities (slug, title) values ('x', 'x'), ('y', 'y')")
    conn.execute("insert into activity_tag_map select a.id, t.id from activities a join activity_tags t"
                 " on (a.slug, t.slug) in (('x', 'a'), ('y', 'b'))")  # fmt: skip
    interact(conn, person, "x")
    interact(conn, person, "y")
    conn.execute("update activity_interactions set created_at = created_at - %s::interval where activity_slug = 'y'",
                 (f"{HALF_LIFE.days} days",))  # fmt: skip
    refresh_segments(conn)
    before = segments(conn, person)
    assert before["b"][0] == pytest.approx(0.2, abs=TOLERANCE)
    conn.execute("update activity_interactions set created_at = created_at - interval '1000 days'")
    refresh_segments(conn)
    assert segments(conn, person) == before
