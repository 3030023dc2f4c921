"""Chat sessions, their messages with tool calls and latencies, summaries, and the activities that chats drafted."""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sandbox.rows.copying import line, text_array
from sandbox.rows.vocabulary import ANSWERS, CLOSINGS, DETAILS, EXPERIENCES, QUESTIONS, TOOLS
from sandbox.rows.world import World, email_of, make_uuid, often_the_first

RECENT_SESSIONS = 24  # within the last day, so that a fresh database counts as healthy
LONGEST_MINUTES = 40
MODELS: Final = ("assistant-small", "assistant-large")


class Message(NamedTuple):
    """A message as it was written."""

    role: str
    content: str
    calls: list[dict[str, object]] | None
    latency: int | None
    at: datetime


def sessions(world: World) -> Iterator[tuple[str, str, datetime, int]]:
    """(id, account, started at, number of exchanges) of each chat session."""
    rng = world.rng("chat sessions")
    for number in range(world.scale.chat_sessions):
        recent = number < RECENT_SESSIONS
        started = world.ago(rng, 0.95 if recent else world.scale.app_days) - timedelta(minutes=LONGEST_MINUTES)
        exchanges = 0 if number % 50 == 49 else 1 + int(8 * rng.random() ** 2)
        yield make_uuid(rng), often_the_first(rng, world.accounts), started, exchanges


def _conversations(world: World) -> Iterator[tuple[tuple[str, str, datetime, int], list[Message]]]:
    """Each session with its messages."""
    rng = world.rng("chat messages")
    answers, found = [_answer(rng) for _ in range(400)], [_result(rng) for _ in range(100)]
    for session in sessions(world):
        _id, _account, started, exchanges = session
        yield session, list(_messages(rng, started, exchanges, answers, found))


def _messages(
    rng: random.Random, started: datetime, exchanges: int, answers: list[str], found: list[str]
) -> Iterator[Message]:
    for exchange in range(exchanges):
        at = started + timedelta(minutes=4 * exchange, microseconds=rng.randrange(1_000_000))
        yield Message("user", rng.choice(QUESTIONS), None, None, at)
        calls = _calls(rng.random(), [often_the_first(rng, TOOLS) for _ in range(2)])
        for place, call in enumerate(calls, start=1):
            result = rng.choice(found) if rng.random() < 0.9 else ""
            yield Message("tool", result, [call], rng.randrange(40, 900), at + timedelta(seconds=2 * place))
        # Latencies are skewed: most below two seconds, a long tail, some not measured.
        latency = int(rng.lognormvariate(7.2, 0.6)) if rng.random() < 0.97 else None
        asked: list[dict[str, object]] | None = [{"tool": call["tool"]} for call in calls]
        if not calls and rng.random() < 0.7:
            asked = None
        # Every fifth answer is a line; the others list places, as long as answers are.
        content = rng.choice(ANSWERS) if rng.random() < 0.2 else rng.choice(answers)
        yield Message("assistant", content, asked, latency, at + timedelta(seconds=8))


def _answer(rng: random.Random) -> str:
    places = [
        f"{number}. **{place.title}** ({place.minutes} min): {place.summary}。{rng.choice(DETAILS)}"
        for number, place in enumerate(rng.sample(EXPERIENCES, rng.randrange(1, 6)), start=1)
    ]
    return "\n\n".join((rng.choice(ANSWERS), *places, rng.choice(CLOSINGS)))


def _result(rng: random.Random) -> str:
    rows = ", ".join(
        f'{{"slug": "{place.slug}", "title": "{place.title}", "minutes": {place.minutes}, "tags": {len(place.tags)}, '
        f'"rating": {rng.randrange(30, 50) / 10}}}'
        for place in rng.sample(EXPERIENCES, rng.randrange(1, 9))
    )
    return f'{{"results": [{rows}]}}'


def _calls(chance: float, tools: list[str]) -> list[dict[str, object]]:
    number = 0 if chance < 0.5 else 1 if chance < 0.9 else 2
    return [{"tool": tool, "arguments": {"city": "福井", "limit": 3}, "status": "ok"} for tool in tools[:number]]


def _metadata(rng: random.Random, messages: list[Message]) -> dict[str, Any]:
    """The figures that the application writes when an answer is complete; older sessions have none."""
    metadata: dict[str, Any] = {"channel": rng.choice(("web", "line"))}
    if messages and rng.random() < 0.85:
        errors = rng.choices((0, 1, 3), (90, 8, 2))[0]
        metadata["metrics"] = {
            "totalTokens": sum(len(message.content) for message in messages) // 3,
            "totalLatencyMs": sum(message.latency or 0 for message in messages),
            "totalMessages": len(messages),
            "functionsUsed": sorted({str(call["tool"]) for message in messages for call in message.calls or ()}),
            "placesFound": rng.randrange(12),
            "errors": errors,
        }
        if errors:
            metadata["errors"] = [{"code": "tool_timeout", "message": "no answer within 10 s"}] * errors
    return metadata


def session_lines(world: World) -> Iterator[str]:
    """chat_sessions: id, account_id, session_type, title, state, started_at, last_activity_at, closed_at,
    metadata."""
    rng = world.rng("chat session details")
    for (session, account, started, exchanges), messages in _conversations(world):
        last = started + timedelta(minutes=4 * exchanges)
        kind = rng.choices(("assistant", "vendor_support", "system"), (95, 4, 1))[0]
        title = rng.choice(("New chat", "", "福井旅行の相談", "Weekend in Fukui", "雨の日プラン"))
        closed = last if rng.random() < 0.5 else None
        yield line(session, account, kind, title, {}, started, last, closed, _metadata(rng, messages))


def message_lines(world: World) -> Iterator[str]:
    """chat_messages: id, session_id, role, content, tool_calls, latency_ms, created_at, metadata, sequence."""
    rng = world.rng("chat message details")
    for (session, *_rest), messages in _conversations(world):
        for sequence, (role, content, calls, latency, at) in enumerate(messages, start=1):
            metadata = {"model": rng.choice(MODELS), "finish": "stop"} if role == "assistant" else {}
            yield line(make_uuid(rng), session, role, content, calls, latency, at, metadata, sequence)


def summary_lines(world: World) -> Iterator[str]:
    """chat_session_summaries: session_id, summary, title_suggestion, last_message_excerpt, tags, updated_at.

    Free text about what was said; every tenth names the person.
    """
    rng = world.rng("chat summaries")
    numbers = {account: number for number, account in enumerate(world.accounts)}
    for count, ((session, account, started, exchanges), messages) in enumerate(_conversations(world)):
        if exchanges and count % 3 == 0:
            place = rng.choice(EXPERIENCES)
            who = f"{email_of(numbers[account])} " if count % 30 == 0 else "旅行者"
            summary = f"{who}が{place.title}について尋ね、{exchanges}回のやり取りで候補を示した。"
            tags = text_array(place.tags) if count % 4 else None
            excerpt = messages[-1].content[:80]
            yield line(session, summary, place.title, excerpt, tags, started + timedelta(minutes=4 * exchanges))


def _drafts(world: World) -> Iterator[tuple[str, str | None, str, datetime]]:
    """(id, chat session, account, created at) of each drafted activity; some have lost their session."""
    rng = world.rng("generated activities")
    for number, (session, account, started, exchanges) in enumerate(sessions(world)):
        if exchanges and number % 12 == 0:
            yield make_uuid(rng), session if number % 60 else None, account, started + timedelta(minutes=30)


def draft_lines(world: World) -> Iterator[str]:
    """generated_activities: id, chat_session_id, draft_slug, title, summary, body_mdx, source_place_id, status,
    metadata, created_at, updated_at."""
    rng = world.rng("generated activity details")
    for number, (draft, session, _account, created) in enumerate(_drafts(world)):
        title = rng.choice(("雨の日の鯖江", "A quiet morning in Eiheiji", "親子で恐竜"))
        status = rng.choice(("draft", "approved", "rejected", "published"))
        slug = None if number % 4 == 0 else f"draft-{number}"
        body = f"# {title}\n\n{rng.choice(ANSWERS)}\n"
        yield line(draft, session, slug, title, "", body, None, status, {}, created, created + timedelta(hours=1))


def save_lines(world: World) -> Iterator[str]:
    """generated_activity_saves: id, generated_activity_id, account_id, source, interaction_id, metadata,
    created_at. Every third draft is saved by a second account too."""
    rng = world.rng("generated activity saves")
    for number, (draft, _session, account, created) in enumerate(_drafts(world)):
        savers = {account: "chat"}
        if number % 3 == 0:
            savers.setdefault(rng.choice(world.accounts), "recommendation")
        for saver, source in savers.items():
            yield line(make_uuid(rng), draft, saver, source, None, {}, created + timedelta(minutes=5))
