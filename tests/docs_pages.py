"""What the tests of the documents share: the blocks of a page, and a conversion to try them on."""

import re
from datetime import UTC, datetime
from pathlib import Path

from lifecycle.partitions.convert import convert_table
from lifecycle.partitions.tables import MonthlyTable

ROOT = Path(__file__).parents[1]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def convert(url: str, table: MonthlyTable, *, split: bool, until: str = "") -> None:
    """Convert `table`; a run that reports `until` is cut off there."""

    def progress(message: str, _done: float) -> None:
        if until and until in message:
            raise KeyboardInterrupt

    convert_table(url, table, split_now=split, now=datetime.now(UTC), progress=progress)
