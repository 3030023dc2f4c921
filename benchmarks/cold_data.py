"""Data sets as event tables of their own: what the application's sandbox makes up, and real ones."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sandbox.real_data import commerce, dialogues, files, survey, weblogs
from sandbox.real_data.files import csv_rows, json_lines
from sandbox.real_data.load import SOURCES
from sandbox.real_data.material import Material, row_id
from sandbox.rows.copying import line

# Columns and indexes of the application's tables. A unique index of a partitioned table would hold its time column.
LIKE: Final = "(like public.{} including all)"
SHAPES: Final = {"chat_messages": "(like public.chat_messages including all excluding indexes, primary key (id))"}
INDEXES: Final = {"chat_messages": ("(session_id, created_at)", "(session_id, sequence)")}
TRACE: Final = "(id bigint primary key, at timestamptz not null, context_tokens int, generated_tokens int)"
TIMES: Final = {
    "user_behavior_events": "event_timestamp",
    "business_metrics_events": "event_timestamp",
    "session_replay_events": "timestamp",
    "chat_messages": "created_at",
}
COLUMNS: Final[Mapping[str, str]] = {source.table: source.columns for source in SOURCES}


@dataclass(frozen=True)
class DataSet:
    """Rows for an event table `name` of a shape (what CREATE TABLE says of it), with its time column and more indexes.

    `lines` makes the rows of `columns` for COPY. Without it the rows are those that the sandbox made up for the
    application's table `source`.
    """

    name: str
    told: str
    shape: str
    time: str
    indexes: tuple[str, ...] = ()
    columns: str = ""
    source: str = ""
    lines: Callable[[Material], Iterator[str]] | None = None


def _made_up(table: str) -> DataSet:
    shape, indexes = SHAPES.get(table, LIKE.format(table)), INDEXES.get(table, ())
    return DataSet(f"made_up_{table}", f"made up: {table}", shape, TIMES[table], indexes, source=table)


def _real(name: str, told: str, table: str, lines: Callable[[Material], Iterator[str]]) -> DataSet:
    shape, indexes = SHAPES.get(table, LIKE.format(table)), INDEXES.get(table, ())
    return DataSet(name, told, shape, TIMES[table], indexes, COLUMNS[table], lines=lines)


def recordings(material: Material) -> Iterator[str]:
    """session_replay_events: the two recordings, each once, shifted to end now."""
    last = max(event["timestamp"] for event in json_lines(material.folder, files.REPLAYS))
    shift = material.shift(datetime.fromtimestamp(last / 1000, UTC))
    for event in json_lines(material.folder, files.REPLAYS):
        at = datetime.fromtimestamp(event["timestamp"] / 1000, UTC) + shift
        session, kind = event["session_id"], survey.RRWEB_TYPES[event["type"]]
        data = {"type": event["type"], "data": event["data"]}
        yield line(row_id("recording", session, event["seq"]), session, kind, data, at)


def model_requests(material: Material) -> Iterator[str]:
    """Requests to a language model: a number, a time and two counts."""
    requests = list(csv_rows(material.folder, files.MODEL_REQUESTS))
    times = [datetime.fromisoformat(row["TIMESTAMP"][:26]).replace(tzinfo=UTC) for row in requests]
    shift = material.shift(max(times))
    for number, (at, row) in enumerate(zip(times, requests, strict=True)):
        yield line(number, at + shift, row["ContextTokens"], row["GeneratedTokens"])


GENERATED: Final = tuple(map(_made_up, TIMES))
REAL: Final = (
    _real(
        "weblog_blog",
        "web log of a blog, 2016",
        "user_behavior_events",
        lambda material: weblogs.requests(material, files.BLOG_LOG),
    ),
    _real(
        "weblog_site",
        "web log of a site, 2015",
        "user_behavior_events",
        lambda material: weblogs.requests(material, files.SITE_LOG),
    ),
    _real("survey_answers", "survey of visitors, answers", "user_behavior_events", survey.behavior_events),
    _real("survey_metrics", "survey of visitors, spending", "business_metrics_events", survey.business_events),
    _real("stays", "stays at a hot spring", "business_metrics_events", commerce.stays),
    _real("recordings", "recordings of web pages", "session_replay_events", recordings),
    _real("dialogues", "travel dialogues in Japanese", "chat_messages", dialogues.message_lines),
    DataSet(
        name="model_requests",
        told="requests to a language model",
        shape=TRACE,
        time="at",
        columns="id at context_tokens generated_tokens",
        lines=model_requests,
    ),
)
