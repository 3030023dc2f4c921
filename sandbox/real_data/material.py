"""What the tables made from real data agree on: accounts, shifted clocks, times of the dialogues."""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from sandbox.real_data import files
from sandbox.real_data.files import csv_rows, json_lines

TOKYO: Final = ZoneInfo("Asia/Tokyo")
CHAT_DAYS: Final = 420
SITE_LOG_DAYS_BACK: Final = 180  # so that the two web logs do not overlap
PAYMENT_DAYS_BACK: Final = 20


def row_id(*parts: object) -> str:
    """The same UUID for the same parts, in every load."""
    digits = hashlib.blake2b(":".join(map(str, parts)).encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


class Member(NamedTuple):
    """A survey member: first and latest answer, in the survey's own time, and what the latest says of them."""

    first: datetime
    latest: datetime
    about: dict[str, str]


class Dialogue(NamedTuple):
    """A conversation with its invented account and start."""

    id: str
    account: str
    start: datetime
    messages: list[dict[str, Any]]

    def time_of(self, place: int) -> datetime:
        """When message number `place` was written: invented, between 20 and 80 seconds after the one before."""
        return self.start + timedelta(seconds=50 * place + int(self.id[:4], 16) % 30)


@dataclass(frozen=True)
class Material:
    """The data folder, read against a clock."""

    folder: Path
    now: datetime

    @cached_property
    def members(self) -> dict[str, Member]:
        """The survey's members by their number."""
        members: dict[str, Member] = {}
        for row in self.answers():
            at = survey_time(row)
            about = {
                "gender": row["性別"],
                "ageGroup": row["年代"],
                "prefecture": row["都道府県"],
                "city": row["会員市町村"],
            }
            first = members[row["会員ID"]].first if row["会員ID"] in members else at
            members[row["会員ID"]] = Member(first, at, {key: text for key, text in about.items() if text})
        return members

    @cached_property
    def accounts(self) -> list[str]:
        """Account ids of the survey's members, in the order of their first answer."""
        return [member_account(member) for member in self.members]

    def answers(self) -> Iterator[dict[str, str]]:
        """Every answer to the survey, in order of time."""
        for name in files.SURVEYS:
            yield from csv_rows(self.folder, name)

    @cached_property
    def survey_shift(self) -> timedelta:
        """What to add to a time of the survey."""
        return self.shift(max(member.latest for member in self.members.values()))

    def shift(self, last: datetime, days_back: int = 0) -> timedelta:
        """Whole days that bring `last` as near as possible to `days_back` days before now, never beyond it."""
        return timedelta(days=(self.now - last).days - days_back)

    def dialogues(self) -> Iterator[Dialogue]:
        """The conversations with invented accounts and starts: more of them lately, the last one just now."""
        rng = random.Random("dialogues")
        total = self._dialogue_count
        for place, source in enumerate(json_lines(self.folder, files.DIALOGUES), start=1):
            ago = CHAT_DAYS * (1 - (place / total) ** 0.6)
            start = self.now - timedelta(days=ago, minutes=60)
            account = self.accounts[int(len(self.accounts) * rng.random() ** 2)]
            yield Dialogue(row_id("dialogue", source["dialogue_id"]), account, start, source["messages"])

    @cached_property
    def _dialogue_count(self) -> int:
        return sum(1 for _ in json_lines(self.folder, files.DIALOGUES))


def member_account(member: str) -> str:
    """The account of a survey member."""
    return row_id("member", member)


def survey_time(row: dict[str, str]) -> datetime:
    """When an answer was given, by the survey's clock."""
    return datetime.fromisoformat(row["回答日時"]).replace(tzinfo=TOKYO).astimezone(UTC)
