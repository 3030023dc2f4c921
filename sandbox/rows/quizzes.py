"""Quizzes, their answers and results, and the recommendations that came of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sandbox.rows.copying import line
from sandbox.rows.vocabulary import DIETARY_CODES, LANGUAGE_CODES, PHOTO_CODES, QUIZ_QUESTIONS, TRAVEL_TYPES
from sandbox.rows.world import World, make_uuid, often_the_first

TRIGGERS = ("quiz_result", "chat_prompt", "manual", "cron")
RUN_STATES = ("ready", "ready", "ready", "queued", "processing", "failed")


def quiz_form_ids(world: World) -> list[str]:
    """Two versions of the quiz."""
    rng = world.rng("quiz form ids")
    return [make_uuid(rng) for _ in range(2)]


def quiz_forms(world: World) -> Iterator[str]:
    """quiz_forms: id, version, definition, published, created_at."""
    definition = {"questions": [{"ref": ref, "choices": list(slugs)} for ref, slugs, _ in QUIZ_QUESTIONS]}
    for version, form in enumerate(quiz_form_ids(world), start=1):
        created = world.now - timedelta(days=900 - 300 * version)
        yield line(form, version, definition, version == 2, created)


def _sessions(world: World) -> Iterator[tuple[str, str, int, str, datetime]]:
    """(id, account, number of the account, status, started at)"""
    rng = world.rng("quiz sessions")
    for number, account in enumerate(world.accounts):
        for _ in range((0, 1, 1, 2)[number % 4]):
            status = "completed" if rng.random() < 0.75 else rng.choice(("in_progress", "abandoned"))
            yield make_uuid(rng), account, number, status, world.ago(rng, world.scale.app_days)


def quiz_sessions(world: World) -> Iterator[str]:
    """quiz_sessions: id, account_id, quiz_form_id, status, started_at, completed_at, location_permission,
    metadata."""
    forms = quiz_form_ids(world)
    for session, account, number, status, started in _sessions(world):
        completed = started + timedelta(minutes=4) if status == "completed" else None
        form = None if number % 29 == 0 else forms[number % 2]
        yield line(session, account, form, status, started, completed, (True, False, None)[number % 3], {})


def quiz_answers(world: World) -> Iterator[str]:
    """quiz_answers: id, session_id, question_ref, answer_value (array of slugs, or one), answered_at."""
    rng = world.rng("quiz answers")
    for session, _account, number, status, started in _sessions(world):
        asked = QUIZ_QUESTIONS if status == "completed" else QUIZ_QUESTIONS[: rng.randrange(4)]
        for place, (ref, slugs, several) in enumerate(asked, start=1):
            chosen = rng.sample(slugs, rng.randrange(3))
            value: str | list[str] = chosen if several and number % 6 else rng.choice(slugs)
            # A jsonb string is quoted JSON, not bare text.
            answer = value if isinstance(value, list) else f'"{value}"'
            yield line(make_uuid(rng), session, ref, answer, started + timedelta(seconds=20 * place))


def quiz_results(world: World) -> Iterator[str]:
    """quiz_results: id, session_id, account_id, result_type, travel_type_code, travel_type_payload,
    recommendation_snapshot, created_at, dietary_preferences, language_comfort, photo_subjects.

    Results from before the arrays came have none; some are empty.
    """
    rng = world.rng("quiz results")
    for session, account, number, status, started in _sessions(world):
        if status == "completed":
            code, name, emoji = rng.choice(TRAVEL_TYPES)
            chosen = [often_the_first(rng, world.activities) for _ in range(3)]
            picks = [
                {"slug": activity.slug, "title": activity.title, "relevanceScore": round(0.95 - place / 10, 2)}
                for place, activity in enumerate(chosen)
            ]
            kind = "travel_type" if number % 5 else "destination_cluster"
            when = started + timedelta(minutes=4)
            payload = {"travelTypeName": name, "travelTypeEmoji": emoji, "score": rng.randrange(100)}
            older = number % 6 == 5
            tastes = [
                None if older else rng.sample(codes, rng.randrange(3))
                for codes in (DIETARY_CODES, LANGUAGE_CODES, PHOTO_CODES)
            ]
            snapshot = picks if number % 8 else None
            yield line(make_uuid(rng), session, account, kind, code, payload, snapshot, when, *tastes)


def _runs(world: World) -> Iterator[tuple[str, str, str, str, datetime]]:
    """(id, account, trigger, status, created at)"""
    rng = world.rng("recommendation runs")
    for account in world.accounts:
        for _ in range(rng.randrange(4)):
            created = world.ago(rng, world.scale.app_days)
            yield make_uuid(rng), account, rng.choice(TRIGGERS), rng.choice(RUN_STATES), created


def recommendation_runs(world: World) -> Iterator[str]:
    """recommendation_runs: id, account_id, trigger, input_payload, model_metadata, status, created_at,
    completed_at."""
    for run, account, trigger, status, created in _runs(world):
        completed = created + timedelta(seconds=3) if status == "ready" else None
        yield line(run, account, trigger, {"limit": 5}, {"model": "ranker-2"}, status, created, completed)


def recommendation_items(world: World) -> Iterator[str]:
    """recommendation_items: id, run_id, activity_id, place_id, rank, score, presentation_payload, presented_at,
    clicked_at, dismissed_at."""
    rng = world.rng("recommendation items")
    for run, _account, _trigger, status, created in _runs(world):
        for rank in range(1, 6 if status == "ready" else 1):
            activity = often_the_first(rng, world.activities)
            known = rng.random() < 0.9
            shown = created + timedelta(seconds=5)
            clicked = shown + timedelta(seconds=rng.randrange(60)) if rng.random() < 0.2 else None
            dismissed = shown + timedelta(seconds=9) if not clicked and rng.random() < 0.1 else None
            yield line(
                make_uuid(rng),
                run,
                activity.id if known else None,
                None if known else f"ChIJ{rng.getrandbits(80):020x}",
                rank,
                round(1 - rank * rng.random() / 8, 4),
                {"title": activity.title},
                shown,
                clicked,
                dismissed,
            )
