"""Rows of the three event tables and of search_queries, as fast as COPY takes them.

Parts that repeat (devices, jsonb values) are made once as ready COPY text; a row is one f-string.
"""

import random
from collections.abc import Callable, Iterator
from typing import Any, Final

from sandbox.rows.awkward import ODD_PAGES, SHARED_SESSIONS, moments
from sandbox.rows.copying import NULL, escape, field, json_field, line
from sandbox.rows.visits import Visit, visits
from sandbox.rows.vocabulary import DEVICES, EXPERIENCES, PAGES, QUESTIONS, REFERRERS, SEARCHES
from sandbox.rows.world import World, email_of, make_uuid, often_the_first

EVENT_MONTHS_BACK: Final = (0, 1, 2, 11, 12, 23, 24, 25)
REPLAY_MONTHS_BACK: Final = (0, 1, 2, 3, 4)


def _pool(rng: random.Random, size: int, make: Callable[[random.Random], Any]) -> list[str]:
    """`size` jsonb values as COPY text; None becomes SQL NULL."""
    return [NULL if (value := make(rng)) is None else json_field(value) for _ in range(size)]


def _actions(rng: random.Random) -> list[dict[str, object]]:
    kinds = rng.choices(("click", "scroll", "copy", "地図を開く"), k=rng.randrange(4))
    return [{"type": kind, "t": rng.randrange(60_000), "target": f"#b{rng.randrange(40)}"} for kind in kinds]


def _performance(rng: random.Random) -> dict[str, float] | None:
    return {"lcp": rng.randrange(400, 6000), "cls": round(rng.random() / 4, 3)} if rng.random() < 0.9 else None


def _engagement(rng: random.Random) -> dict[str, object] | None:
    chance = rng.random()
    if chance < 0.08:
        return None if chance < 0.05 else {}
    # Whole numbers: daily_user_behavior_summary cannot be refreshed over any other.
    return {
        "timeOnPage": round(rng.expovariate(1 / 35)),
        "scrollDepth": rng.randrange(101),
        "clickCount": rng.randrange(12),
    }


def page_views(world: World) -> Iterator[str]:
    """user_behavior_events, every column in table order."""
    rng = world.rng("page views")
    chance, bits = rng.random, rng.getrandbits
    devices = ["\t".join(map(escape, device)) for device in DEVICES]
    pages = [escape(page) for page in PAGES]
    referrers = [*(escape(referrer) for referrer in REFERRERS), NULL, NULL]
    actions, performance = _pool(rng, 300, _actions), _pool(rng, 200, _performance)
    engagement = _pool(rng, 400, _engagement)
    for visit in visits(world):
        head = f"{visit.session_id}\t"
        device = devices[visit.device]
        referrer = referrers[int(len(referrers) * chance())]
        for page in range(visit.pages):
            at = visit.time_at(page, int(1e6 * chance()))
            yield (
                f"{bits(128):032x}\t{visit.account_at(page)}\t{head}{at}\t{pages[int(20 * chance() ** 2)]}\t{device}\t"
                f"{referrer if page == 0 else NULL}\t{actions[int(300 * chance())]}\t"
                f"{performance[int(200 * chance())]}\t{engagement[int(400 * chance())]}\t{at}\n"
            )
    yield from _awkward_page_views(world, rng)


def _awkward_page_views(world: World, rng: random.Random) -> Iterator[str]:
    accounts = (*world.accounts[:5], None)
    device = DEVICES[0]
    values: tuple[Any, ...] = ({}, [], None, "null")
    for number, at in enumerate(moments(world, EVENT_MONTHS_BACK)):
        account, session = accounts[number % 6], SHARED_SESSIONS[number % 3]
        page = ODD_PAGES[number % len(ODD_PAGES)]
        value = values[number % 4]
        yield line(make_uuid(rng), account, session, at, page, *device, "", [], value, value, min(at, world.now))


def _journey(rng: random.Random) -> dict[str, object]:
    journey: dict[str, object] = {"entry": rng.choice(PAGES), "touchpoints": rng.randrange(9)}
    if rng.random() < 0.02:
        journey["contact"] = {"email": email_of(rng.randrange(100)), "ip": f"203.0.113.{rng.randrange(256)}"}
    return journey


def _revenue(rng: random.Random) -> dict[str, object] | None:
    return {"amount": 500 * rng.randrange(1, 40), "currency": "JPY"} if rng.random() < 0.12 else None


def business_events(world: World) -> Iterator[str]:
    """business_metrics_events, every column in table order: about one for two page views."""
    rng = world.rng("business events")
    chance, bits = rng.random, rng.getrandbits
    experiences = [f"{escape(e.slug)}\t{escape(e.title)}" for e in EXPERIENCES] + [f"{NULL}\t{NULL}"] * 3
    steps = ("view", "detail", "form", "booked")
    funnel = _pool(rng, 50, lambda r: {"step": (step := r.randrange(4)), "name": steps[step]})
    revenue, journey = _pool(rng, 200, _revenue), _pool(rng, 300, _journey)
    content = _pool(rng, 60, lambda r: {"views": r.randrange(900)} if r.random() < 0.7 else None)
    satisfaction = _pool(rng, 40, lambda r: {"nps": r.randrange(11), "声": "また来たい"} if r.random() < 0.2 else None)
    for visit in visits(world):
        for page in range(visit.pages):
            if chance() < 0.54:
                at = visit.time_at(page, int(1e6 * chance()))
                yield (
                    f"{bits(128):032x}\t{visit.account_at(page)}\t{visit.session_id}\t{at}\t/experiences\t"
                    f"{experiences[int(19 * chance())]}\t{funnel[int(50 * chance())]}\t"
                    f"{revenue[int(200 * chance())]}\t{journey[int(300 * chance())]}\t{content[int(60 * chance())]}\t"
                    f"{satisfaction[int(40 * chance())]}\t{at}\n"
                )
    for number, moment in enumerate(moments(world, EVENT_MONTHS_BACK)):
        account, session = (*world.accounts[:5], None)[number % 6], SHARED_SESSIONS[number % 3]
        url = ODD_PAGES[number % len(ODD_PAGES)]
        stored = min(moment, world.now)
        yield line(make_uuid(rng), account, session, moment, url, "", "", {}, None, [], {}, None, stored)


def _replay(rng: random.Random) -> tuple[str, dict[str, object]]:
    kind = rng.choices(("mouse_move", "scroll", "click", "input", "full_snapshot"), (50, 25, 15, 9, 1))[0]
    if kind == "input":
        return kind, {"type": 3, "data": {"source": 5, "id": rng.randrange(90), "text": rng.choice(QUESTIONS)}}
    if kind == "full_snapshot":
        nodes = [{"id": n, "tagName": "div", "textContent": rng.choice(QUESTIONS)} for n in range(30)]
        return kind, {"type": 2, "data": {"node": {"childNodes": nodes}}}
    positions = [{"x": rng.randrange(1500), "y": rng.randrange(900), "t": -50 * n} for n in range(rng.randrange(1, 5))]
    return kind, {"type": 3, "data": {"source": 1, "positions": positions}}


def replays(world: World) -> Iterator[str]:
    """session_replay_events: id, session_id, event_type, event_data, timestamp. A third of the recent visits."""
    rng = world.rng("replays")
    chance, bits = rng.random, rng.getrandbits
    events = [f"{kind}\t{json_field(data)}" for kind, data in (_replay(rng) for _ in range(400))]
    for visit in visits(world):
        if visit.days_ago < world.scale.replay_days and chance() < 0.33:
            for event in range(2 * visit.pages):
                at = visit.time_at(event // 2, int(5e5 * (chance() + event % 2)))
                yield f"{bits(128):032x}\t{visit.session_id}\t{events[int(400 * chance())]}\t{at}\n"
    for number, moment in enumerate(moments(world, REPLAY_MONTHS_BACK)):
        data: Any = ({}, [], "null", {"text": ""}, {"text": "山田花子 090-0000-0000"})[number % 5]
        yield line(make_uuid(rng), SHARED_SESSIONS[number % 3], "input" if number % 2 else "", data, moment)


def _searching(world: World) -> Iterator[Visit]:
    """Visits that search, spread evenly, as many as the scale wants at most."""
    every = max(1, world.scale.page_views // 6 // max(1, world.scale.searches))
    for number, visit in enumerate(visits(world)):
        if number % every == 0 and visit.days_ago < world.scale.app_days:
            yield visit


def searches(world: World) -> Iterator[str]:
    """search_queries: id, account_id, session_id, search_query, search_source, search_context, page_url,
    results_count, clicked_result_id, clicked_result_position, searched_at, created_at."""
    rng = world.rng("searches")
    for visit in _searching(world):
        for page in range(min(visit.pages, 3)):
            at = visit.time_at(page, rng.randrange(1_000_000))
            results = 0 if rng.random() < 0.1 else rng.randrange(1, 30)
            clicked = results > 0 and rng.random() < 0.35
            activity = often_the_first(rng, world.activities).id if clicked else None
            rest = (
                often_the_first(rng, SEARCHES),
                rng.choice(("hero", "header", "experiences", "chat", None)),
                ({"filters": {"city": "福井"}}, {}, None)[int(3 * rng.random())],
                "/search",
                results,
                activity,
                rng.randrange(1, 10) if clicked else None,
            )
            cells = "\t".join(map(field, rest))
            yield f"{make_uuid(rng)}\t{visit.account_at(page)}\t{visit.session_id}\t{cells}\t{at}\t{at}\n"
