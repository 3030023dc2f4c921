"""Chat sessions, their messages with tool calls and latencies, and the activities that chats drafted."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sandbox.rows.copying import line
from sandbox.rows.vocabulary import ANSWERS, QUESTIONS, TOOLS
from sandbox.rows.world import World, make_uuid, often_the_first

RECENT_SESSIONS = 24  # within the last day, so that a fresh database counts as healthy
LONGEST_MINUTES = 40


def sessions(world: World) -> Iterator[tuple[str, str, datetime, int]]:
    """(id, account, started at, number of exchanges) of each chat session."""
    rng = world.rng("chat sessions")
    for number in range(world.scale.chat_sessions):
        recent = number < RECENT_SESSIONS
        started = world.ago(rng, 0.95 if recent else world.scale.app_days) - timedelta(minutes=LONGEST_MINUTES)
        exchanges = 0 if number % 50 == 49 else 1 + int(8 * rng.random() ** 2)
        yield make_uuid(rng), often_the_first(rng, world.accounts), started, exchanges


def session_lines(world: World) -> Iterator[str]:
    """chat_sessions: id, account_id, session_type, title, state, started_at, last_activity_at, closed_at,
    metadata."""
    rng = world.rng("chat session details")
    for session, _account, started, exchanges in sessions(world):
        last = started + timedelta(minutes=4 * exchanges)
        kind = rng.choices(("assistant", "vendor_support", "system"), (95, 4, 1))[0]
        title = rng.choice((None, "", "福井旅行の相談", "Weekend in Fukui", "雨の日プラン"))
        closed = last if rng.random() < 0.5 else None
        yield line(session, _account, kind, title, {}, started, last, closed, {"channel": rng.choice(("web", "line"))})


def message_lines(world: World) -> Iterator[str]:
    """chat_messages: id, session_id, role, content, tool_calls, latency_ms, created_at."""
    rng = world.rng("chat messages")
    for session, _account, started, exchanges in sessions(world):
        for exchange in range(exchanges):
            at = started + timedelta(minutes=4 * exchange, microseconds=rng.randrange(1_000_000))
            yield line(make_uuid(rng), session, "user", rng.choice(QUESTIONS), None, None, at)
            calls = _calls(rng.random(), [often_the_first(rng, TOOLS) for _ in range(2)])
            for place, call in enumerate(calls, start=1):
                result = '{"results": 3}' if rng.random() < 0.9 else ""
                then = at + timedelta(seconds=2 * place)
                yield line(make_uuid(rng), session, "tool", result, [call], rng.randrange(40, 900), then)
            # Latencies are skewed: most below two seconds, a long tail, some not measured.
            latency = int(rng.lognormvariate(7.2, 0.6)) if rng.random() < 0.97 else None
            asked: list[dict[str, object]] | None = [{"tool": call["tool"]} for call in calls]
            if not calls and rng.random() < 0.7:
                asked = None
            then = at + timedelta(seconds=8)
            yield line(make_uuid(rng), session, "assistant", rng.choice(ANSWERS), asked, latency, then)


def _calls(chance: float, tools: list[str]) -> list[dict[str, object]]:
    number = 0 if chance < 0.5 else 1 if chance < 0.9 else 2
    return [{"tool": tool, "arguments": {"city": "福井", "limit": 3}, "status": "ok"} for tool in tools[:number]]


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
