"""The loader of real data sets, on a tiny hand-made folder; on the real one where LIFECYCLE_DATA_DIR names it."""

import csv
import gzip
import io
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from lifecycle.errors import SandboxError
from sandbox.real_data import files, load

NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)
REAL_FOLDER = os.environ.get("LIFECYCLE_DATA_DIR")


def silent(_table: str, _rows: int) -> None:
    pass


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()))


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    write(path, text.getvalue())


ANSWER_COLUMNS = """
性別 年代 都道府県 会員市町村 UA 回答エリア 宿泊エリア（県内） 訪問目的ALL 福井県内での交通手段ALL
宿泊費 交通費 県内消費額 エリア訪問回数 情報収集ALL エリア総消費額 満足度 満足度の理由
不便さの内容 NPS 推奨項目 施設に求めるもの 福井県に求めるもの
"""


def answer(member: str, at: str, **columns: str) -> dict[str, str]:
    return {"会員ID": member, "回答日時": at, **dict.fromkeys(ANSWER_COLUMNS.split(), ""), **columns}


def payment(member: dict[str, str], amount: str) -> dict[str, str]:
    common = {"都道府県": "福井県", "市区町村": "福井市", "年齢": "42", "性別": "女性"}
    return {**member, **common, "商品券決済日時": "2022/10/07 9:38", "商品券決済金額": amount}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(files.SURVEYS):
        year = 2022 + number
        write_csv(
            tmp_path / name,
            [
                answer("1", f"{year}-06-01 09:00:00", 満足度の理由="静か\tで良い", NPS="9", 年代="40代"),
                answer("2", f"{year}-06-30 23:59:59", 回答エリア="東尋坊 エリア", UA="mobile/iphone"),
            ],
        )
    area = {"id": "1", "市町名": "坂井市", "エリア名": "東尋坊 エリア", "エリア説明文": "崖", "緯度": "36.2"}
    write_csv(tmp_path / files.AREAS, [{**area, "経度": "136.1", "旧エリア名": ""}])
    spot = dict.fromkeys(("電話番号", "住所", "営業時間", "定休日", "店舗URL", "施設説明文"), "x")
    write_csv(tmp_path / files.SPOTS, [{"親番号": "3", "子番号": "1", "施設名称": "遊覧船", **spot}])
    messages = [
        {"role": "user", "content": "駅は？", "tool_calls": [{"name": "Search_taxi", "arguments": {"city": "福井"}}]},
        {"role": "assistant", "content": "あわら湯のまち駅です。"},
        {"role": "user", "content": "", "tool_calls": []},
    ]
    write(tmp_path / files.DIALOGUES, json.dumps({"dialogue_id": "d1", "messages": messages}) + "\n")
    search = {"dialogue_id": "d1", "data_id": "t0", "user_turn": "0", "call_no": "0", "tool": "Search_taxi"}
    write_csv(tmp_path / files.SEARCHES, [{**search, "arguments_json": "{}", "user_utterance": "駅は？"}])
    write_csv(
        tmp_path / files.LATENCIES,
        [
            {"end_to_end_latency_s": "0", "error_code": "500"},
            {"end_to_end_latency_s": "1.2345", "error_code": ""},
        ],
    )
    request = {"client_id": "c000001", "method": "GET", "path": "/\\x00'; drop", "status": "200", "bytes": ""}
    person, robot = "Mozilla/5.0 (Windows NT 10.0)", "Googlebot/2.1 (+http://example.com)"
    for name, day in ((files.BLOG_LOG, "2016-03-28"), (files.SITE_LOG, "2015-05-17")):
        write_csv(
            tmp_path / name,
            [
                {**request, "ts": f"{day}T{clock}:00-04:00", "referer": "", "user_agent": agent}
                for clock, agent in (("10:00", person), ("10:29", person), ("11:30", person), ("11:31", robot))
            ],
        )
    event = {"source": "x", "session_id": "r", "type": 3, "data": {"text": "山"}}
    write(
        tmp_path / files.REPLAYS, "".join(json.dumps({**event, "seq": n, "timestamp": 500 * n}) + "\n" for n in (1, 2))
    )
    stay = {"prefecture": "東京都", "n_stay": "1", "n_people": "2", "n_room": "1", "amount_fee": "", "n_reserve": "1"}
    write_csv(tmp_path / files.STAYS, [{"date_visit": day, **stay} for day in ("2026-06-01", "2026-09-01")])
    write_csv(tmp_path / files.PAYMENTS, [{**payment({}, "1,760"), "産業": "漆器", "3市町": "鯖江市"}] * 2)
    write_csv(tmp_path / files.LINKED_PAYMENTS, [payment({"会員ID": "1"}, "1760")])
    return tmp_path


def test_load_keeps_what_the_sources_say(empty_application_db, folder):
    seen: dict[str, int] = {}
    report = load(empty_application_db, folder, now=NOW, progress=seen.__setitem__)
    assert seen == report.rows
    assert report.rows | {"auth.users": 2} == report.rows
    assert {table: report.rows[table] for table in ("accounts", "chat_messages", "vouchers", "vendors")} == {
        "accounts": 2,
        "chat_messages": 4,
        "vouchers": 2,
        "vendors": 1,
    }
    assert report.rows["user_behavior_events"] == 10 + 8
    assert report.rows["business_metrics_events"] == 10 + 1  # the later stay is a booking in advance
    assert any("latencies" in sentence for sentence in report.artificial)
    with psycopg.connect(empty_application_db) as conn:
        messages = conn.execute(
            "select role, content, latency_ms, tool_calls->0->>'tool' from chat_messages order by created_at"
        ).fetchall()
        assert messages == [
            ("user", "駅は？", None, None),
            ("tool", "", None, "Search_taxi"),
            ("assistant", "あわら湯のまち駅です。", 1234, None),
            ("user", "", None, None),
        ]
        reasons = conn.execute("select actions->0->>'満足度の理由' from user_behavior_events group by 1 order by 1")
        assert reasons.fetchall() == [("静か\tで良い",), (None,)]
        said = conn.execute("select comment, account_id is not null from reviews group by 1, 2")
        assert said.fetchall() == [("静か\tで良い", True)]
        numbered = conn.execute("select array_agg(sequence order by created_at) from chat_messages").fetchone()
        assert numbered == ([1, 2, 3, 4],)
        searched = conn.execute(
            "select c.account_id = q.account_id from search_queries q join chat_sessions c on c.id::text = q.session_id"
        )
        assert searched.fetchall() == [(True,)]
        linked = conn.execute("select count(*), count(account_id) from form_submissions").fetchone()
        assert linked == (2, 1)


def test_load_shifts_each_source_as_a_whole(empty_application_db, folder):
    load(empty_application_db, folder, now=NOW, progress=silent)
    with psycopg.connect(empty_application_db) as conn:
        first, last = conn.execute(
            "select min(event_timestamp), max(event_timestamp) from user_behavior_events where session_id ~ '^survey'"
        ).fetchall()[0]
        assert last - first == datetime(2026, 6, 30, 23, 59, 59) - datetime(2022, 6, 1, 9)
        assert timedelta(0) <= NOW - last < timedelta(days=1)
        # Three requests of one person with one gap of more than 30 minutes, and a robot; the same in both logs.
        sessions = conn.execute(
            "select count(distinct session_id), count(account_id), max(event_timestamp) - min(event_timestamp) "
            "from user_behavior_events where session_id !~ '^survey' and event_timestamp > %s",
            (NOW - timedelta(days=2),),
        ).fetchone()
        assert sessions == (3, 3, timedelta(minutes=91))
        replayed = conn.execute(
            "select max(timestamp) - min(timestamp), session_id in (select session_id from user_behavior_events) "
            "from session_replay_events group by session_id"
        ).fetchall()
        assert replayed
        assert set(replayed) == {(timedelta(milliseconds=500), True)}


def test_load_names_what_is_missing(empty_application_db, folder):
    (folder / files.SPOTS).unlink()
    with pytest.raises(SandboxError, match=files.SPOTS):
        load(empty_application_db, folder, now=NOW, progress=silent)


def test_load_names_a_broken_file(empty_application_db, folder):
    (folder / files.AREAS).write_bytes(b"not gzip")
    with pytest.raises(SandboxError, match=f"{files.AREAS} cannot be read"):
        load(empty_application_db, folder, now=NOW, progress=silent)


@pytest.mark.skipif(REAL_FOLDER is None, reason="LIFECYCLE_DATA_DIR names no folder with the real data sets")
def test_the_real_data_sets_load(empty_application_db):
    now = datetime.now(UTC)
    rows = load(empty_application_db, Path(str(REAL_FOLDER)), now=now, progress=silent).rows
    assert rows["user_behavior_events"] == 101_507 + 206_860 + 9_999
    assert rows["chat_sessions"] == 4_246
    assert rows["chat_messages"] == 58_360 + 16_523
    assert rows["search_queries"] == 12_932
    assert rows["vouchers"] == 1_408
    with psycopg.connect(empty_application_db) as conn:
        (last,) = conn.execute("select max(event_timestamp) from user_behavior_events").fetchall()[0]
        assert timedelta(0) <= now - last < timedelta(days=1)
