"""Reading the data folder: gzipped CSV and JSON lines, one sub-folder per data set."""

import csv
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

from lifecycle.errors import SandboxError

SURVEYS: Final = tuple(f"fukui_tourism/fukui_tourism_survey_{year}.csv.gz" for year in (2022, 2023, 2024, 2025, 2026))
AREAS: Final = "fukui_tourism/fukui_areas.csv.gz"
SPOTS: Final = "fukui_tourism/fukui_spots.csv.gz"
DIALOGUES: Final = "jmultiwoz_tc/jmultiwoz_tc_dialogues.jsonl.gz"
SEARCHES: Final = "jmultiwoz_tc/jmultiwoz_tc_search_queries.csv.gz"
LATENCIES: Final = "llm_latency/llmperf_chat_latency.csv.gz"
BLOG_LOG: Final = "weblogs/weblog_sparkdeveloper_2016.csv.gz"
SITE_LOG: Final = "weblogs/weblog_semicomplete_2015.csv.gz"
MODEL_REQUESTS: Final = "llm_latency/azure_llm_chat_trace_2023.csv.gz"
REPLAYS: Final = "rrweb_replay/rrweb_replay_events.jsonl.gz"
STAYS: Final = "fukui_bookings_vouchers/awara_onsen_reservations_by_prefecture.csv.gz"
PAYMENTS: Final = "fukui_bookings_vouchers/renewpay_voucher_payments_2022.csv.gz"
LINKED_PAYMENTS: Final = "fukui_bookings_vouchers/renewpay_voucher_payments_linked_2022.csv.gz"
NEEDED: Final = (
    *SURVEYS, AREAS, SPOTS, DIALOGUES, SEARCHES, LATENCIES, BLOG_LOG, SITE_LOG, REPLAYS, STAYS, PAYMENTS,
    LINKED_PAYMENTS,
)  # fmt: skip


def require_files(folder: Path) -> None:
    """SandboxError that names every missing file."""
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise SandboxError(
            f"{folder} lacks {', '.join(missing)}; fetch the data sets as its README says, "
            "or leave out --data to use generated rows"
        )


def csv_rows(folder: Path, name: str) -> Iterator[dict[str, str]]:
    """The rows of a gzipped CSV file by column name; SandboxError when it is missing or broken."""
    with _open(folder, name) as file:
        yield from csv.DictReader(file)


def json_lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The objects of a gzipped file with one JSON object a line; SandboxError when it is missing or broken."""
    with _open(folder, name) as file:
        for line in file:
            yield json.loads(line)


@contextmanager
def _open(folder: Path, name: str) -> Iterator[TextIO]:
    try:
        with gzip.open(folder / name, "rt", encoding="utf-8", newline="") as file:
            yield file
    except (OSError, EOFError, ValueError, csv.Error) as error:
        raise SandboxError(
            f"{folder / name} cannot be read: {error}; fetch it again and compare it with SHA256SUMS"
        ) from error
