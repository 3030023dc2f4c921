"""The indexes that were not chosen, beside those that were: for redemptions, for short words, and for writers."""

import time
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.hot_queries_data import vendor_session
from benchmarks.report import Report
from lifecycle.database import Connection, rows, value
from sandbox.server import Server

if TYPE_CHECKING:
    from benchmarks.hot_queries import Query

DROP_REDEMPTIONS: Final = "drop index if exists voucher_redemptions_vendor_member_idx, candidate"
REDEMPTIONS: Final = {
    "none": "",
    "(vendor_member_id)": "(vendor_member_id)",
    "(vendor_member_id, scanned_at desc)": "(vendor_member_id, scanned_at desc)",
    "(voucher_id, vendor_member_id) partial": "(voucher_id, vendor_member_id) where vendor_member_id is not null",
}
BIGRAMS: Final = """
create function bigrams(words text) returns text[] language sql immutable parallel safe as $$
    select array_agg(distinct a || b)
      from unnest((string_to_array(lower(words), null))[:length(words) - 1], (string_to_array(lower(words), null))[2:])
           pair(a, b) $$;
create index candidate on chat_sessions using gin (bigrams(title));
analyze chat_sessions
"""
NO_INDEX: Final = "set enable_bitmapscan = off; set enable_indexscan = off; set enable_seqscan = on"
AN_INDEX: Final = "set enable_bitmapscan = on; set enable_indexscan = off; set enable_seqscan = off"
COUNT: Final = "select count(*) from chat_sessions where"
FOUND: Final = f"{COUNT} title ilike '%%' || %(word)s || '%%'"
CONTAINED: Final = f"{COUNT} strpos(lower(title), lower(%(word)s)) > 0"
# ilike beside the arrays would make the planner read all trigrams too.
WAYS: Final = {
    "no index": (NO_INDEX, FOUND),
    "trigrams": (AN_INDEX, FOUND),
    "bigrams": (AN_INDEX, f"{CONTAINED} and bigrams(title) @> bigrams(%(word)s)"),
    "characters": (
        AN_INDEX,
        f"{CONTAINED} and string_to_array(lower(title), null) @> string_to_array(lower(%(word)s), null)",
    ),
}
SHORT_WORDS: Final = ("京都", "箱根", "温泉", "小浜", "寺院", "する", "ので", "ky", "湊")
INSERT: Final = """
insert into chat_sessions (account_id, title)
select lpad('1', 32, '0')::uuid, '春の金沢で着物体験 ' || i from generate_series(1, 20000) i
"""


def _milliseconds(conn: Connection, text: str, parameters: dict[str, str] | None = None, times: int = 5) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        rows(conn, text, parameters)
        taken.append((time.perf_counter() - started) * 1000)
    return median(taken)


def measure_candidates(report: Report, server: Server, conn: Connection, queries: Sequence["Query"]) -> None:
    """Three tables; the indexes of the database are others afterwards."""
    from benchmarks.hot_queries import LISTING

    _redemptions(report, server, conn, [query for query in queries if LISTING in query.text])
    _short_words(report, conn)
    _writers(report, conn)


def _redemptions(report: Report, server: Server, conn: Connection, queries: Sequence["Query"]) -> None:
    from benchmarks.hot_queries import DATABASE, measure

    lines = []
    for name, definition in REDEMPTIONS.items():
        conn.execute(DROP_REDEMPTIONS)
        if definition:
            conn.execute(f"create index candidate on voucher_redemptions {definition}".encode())
        conn.execute("vacuum (analyze) voucher_redemptions")
        line = [name]
        for query in queries:
            sessions = [vendor_session(server, DATABASE, member) for member in query.members]
            figures, _ = measure(sessions or [conn], query, query.text)
            line.append(f"{figures.p50:.2f} / {figures.p99:.2f} ms, {figures.buffers:,}")
            for session in sessions:
                session.close()
        size = value(conn, "select coalesce(pg_relation_size(to_regclass('candidate')), 0)")
        lines.append((*line, f"{size / 1e6:.0f} MB"))
    conn.execute(DROP_REDEMPTIONS)
    report.table(
        "Redemptions, a vendor's through row-level security: p50 / p99, buffers",
        ("index", *(query.name for query in queries), "size"),
        lines,
    )


def _short_words(report: Report, conn: Connection) -> None:
    conn.execute(BIGRAMS.encode())
    lines = []
    for word in SHORT_WORDS:
        count = value(conn, FOUND, {"word": word})
        line = [word, f"{count:,}"]
        for name, (settings, text) in WAYS.items():
            if name == "bigrams" and len(word) < 2:
                line.append("cannot")
                continue
            conn.execute(settings.encode())
            assert value(conn, text, {"word": word}) == count
            line.append(f"{_milliseconds(conn, text, {'word': word}):.1f} ms")
            conn.execute("reset all")
        lines.append(line)
    report.table("All titles with a short word, each way alone", ("word", "titles", *WAYS), lines)
    size = value(conn, "select pg_relation_size('candidate')")
    report.line(f"bigrams: {size / 1e6:.0f} MB")
    conn.execute("drop index candidate; drop function bigrams(text)")


def _writers(report: Report, conn: Connection) -> None:
    lines = []
    for name, drop in (
        ("both indexes on titles", ""),
        ("trigrams only", "drop index chat_sessions_title_characters_idx"),
        ("neither", "drop index chat_sessions_title_trgm_idx"),
    ):
        if drop:
            conn.execute(drop.encode())
        conn.execute("vacuum chat_sessions")
        taken = []
        for _ in range(5):
            started = time.perf_counter()
            conn.execute(INSERT)
            taken.append(time.perf_counter() - started)
        lines.append((name, f"{median(taken) / 20000 * 1e6:.1f} us"))
    report.table("One more chat session, 20,000 at a time", ("indexes", "a row"), lines)
