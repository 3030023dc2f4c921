"""The Fukui tourism survey: members become accounts, answers become events; replays are laid over some answers."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from sandbox.real_data import files
from sandbox.real_data.files import csv_rows, json_lines
from sandbox.real_data.material import Material, member_account, row_id, survey_time
from sandbox.rows.copying import line

FREE_TEXT: Final = ("満足度の理由", "推奨項目", "不便さの内容", "福井県に求めるもの", "施設に求めるもの")
MONEY: Final = ("県内消費額", "エリア総消費額", "宿泊費", "交通費")
REPLAY_DAYS: Final = 240
REPLAYED_ANSWERS: Final = 120
RRWEB_TYPES: Final = (
    "dom_content_loaded", "load", "full_snapshot", "incremental_snapshot", "meta", "custom", "plugin",
)  # fmt: skip


def accounts(material: Material) -> Iterator[str]:
    """accounts: id, created_at, updated_at."""
    shift = material.survey_shift
    for number, member in material.members.items():
        yield line(member_account(number), member.first + shift, member.latest + shift)


def users(material: Material) -> Iterator[str]:
    """auth.users: id, email (invented), email_confirmed_at, created_at."""
    for number, member in material.members.items():
        email = f"member-{number}@example.invalid"
        first = member.first + material.survey_shift
        yield line(row_id("user", number), email, first, first)


def linkages(material: Material) -> Iterator[str]:
    """account_linkages: account_id, supabase_user_id, linked_at."""
    for number, member in material.members.items():
        yield line(member_account(number), row_id("user", number), member.first + material.survey_shift)


def profiles(material: Material) -> Iterator[str]:
    """account_profiles: account_id, locale, timezone, demographics, updated_at."""
    for number, member in material.members.items():
        latest = member.latest + material.survey_shift
        yield line(member_account(number), "ja-JP", "Asia/Tokyo", member.about, latest)


def _answers(material: Material) -> Iterator[tuple[int, dict[str, str], str, str, datetime]]:
    """(place, answer, account, session, shifted time); one session per member and day."""
    for place, row in enumerate(material.answers()):
        account = member_account(row["会員ID"])
        session = f"survey-{row['会員ID']}-{row['回答日時'][:10]}"
        yield place, row, account, session, survey_time(row) + material.survey_shift


def behavior_events(material: Material) -> Iterator[str]:
    """user_behavior_events: id, account_id, session_id, event_timestamp, page_url, user_agent, language,
    timezone, referrer, actions, engagement, created_at. One per answer."""
    for place, row, account, session, at in _answers(material):
        action: dict[str, Any] = {"type": "survey_submitted", "purposes": row["訪問目的ALL"].split("\n")}
        action |= {column: row[column] for column in FREE_TEXT if row[column]}
        engagement = {"satisfaction": row["満足度"], "visits": row["エリア訪問回数"]}
        page = f"/survey/{row['回答エリア']}"
        yield line(
            *(row_id("answer", place), account, session, at, page, row["UA"], "ja", "Asia/Tokyo"),
            *(None, [action], engagement, at),
        )


def business_events(material: Material) -> Iterator[str]:
    """business_metrics_events: id, account_id, session_id, event_timestamp, page_url, experience_slug,
    experience_title, conversion_funnel, revenue_metrics, user_journey, customer_satisfaction, created_at."""
    areas = {row["エリア名"]: f"area-{row['id']}" for row in csv_rows(material.folder, files.AREAS)}
    for place, row, account, session, at in _answers(material):
        nps = int(row["NPS"]) if row["NPS"].isdigit() else None
        yield line(
            *(row_id("answer metrics", place), account, session, at, "/survey"),
            *(areas.get(row["回答エリア"]), row["回答エリア"]),
            {"step": "survey_submitted", "channels": row["情報収集ALL"].split("\n")},
            {column: row[column] for column in MONEY if row[column]},
            {"stay": row["宿泊エリア（県内）"], "transport": row["福井県内での交通手段ALL"].split("\n")},
            {"nps": nps, "satisfaction": row["満足度"], "reason": row["満足度の理由"]},
            at,
        )


def reviews(material: Material) -> Iterator[str]:
    """reviews: id, activity_id, account_id, comment, created_at, updated_at. What people wrote about their stay."""
    areas = {row["エリア名"]: row_id("area", row["id"]) for row in csv_rows(material.folder, files.AREAS)}
    for place, row, account, _session, at in _answers(material):
        if row["満足度の理由"]:
            yield line(row_id("review", place), areas.get(row["回答エリア"]), account, row["満足度の理由"], at, at)


def replays(material: Material) -> Iterator[str]:
    """session_replay_events: id, session_id, event_type, event_data, timestamp.

    The two recordings take turns over answers of the last months, as if recorded while they were written.
    """
    recordings: dict[str, list[dict[str, Any]]] = {}
    for event in json_lines(material.folder, files.REPLAYS):
        recordings.setdefault(event["session_id"], []).append(event)
    since = material.now - timedelta(days=REPLAY_DAYS)
    recent = [(session, at) for _, _, _, session, at in _answers(material) if at >= since]
    every = max(1, len(recent) // REPLAYED_ANSWERS)
    for number, (session, at) in enumerate(recent[::-1][::every]):
        recording = list(recordings.values())[number % len(recordings)]
        start = recording[0]["timestamp"]
        for event in recording:
            data = {"type": event["type"], "data": event["data"]}
            when = at + timedelta(milliseconds=event["timestamp"] - start)
            yield line(row_id("replay", number, event["seq"]), session, RRWEB_TYPES[event["type"]], data, when)
