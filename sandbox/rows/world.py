"""What all sample rows share: scale, seed, clock, and the ids that rows of different tables agree on."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Final, TypeVar

from sandbox.rows.vocabulary import EXPERIENCES, TAGS, Experience

T = TypeVar("T")
UUID_VERSION_MASK: Final = ~((0xF << 76) | (0x3 << 62))
UUID_VERSION_4: Final = (0x4 << 76) | (0x2 << 62)


@dataclass(frozen=True)
class Scale:
    """How much to generate. `page_views` are rows of user_behavior_events; the other two event tables follow.

    Page views and business events span `event_days`, replays `replay_days`, everything else `app_days`.
    """

    accounts: int
    page_views: int
    chat_sessions: int
    searches: int
    bookings: int
    event_days: int = 913
    replay_days: int = 243
    app_days: int = 420


@dataclass(frozen=True)
class Activity:
    """An activity of the catalogue: its ids and what it was made from."""

    id: str
    slug: str
    title: str
    experience: Experience


@dataclass(frozen=True)
class World:
    """The fixed points of one generated database."""

    scale: Scale
    name: str
    seed: int
    now: datetime
    skewed_clocks: bool = True

    def rng(self, stream: str) -> random.Random:
        """An independent random stream; the same name always gives the same numbers."""
        return random.Random(f"{self.name}:{self.seed}:{stream}")

    def ago(self, rng: random.Random, days: float) -> datetime:
        """A moment within the last `days`, more of them lately."""
        return self.now - timedelta(seconds=int(days * 86_400 * rng.random() ** 1.5) + 1)

    @cached_property
    def accounts(self) -> list[str]:
        """Ids of all accounts."""
        rng = self.rng("account ids")
        return [make_uuid(rng) for _ in range(self.scale.accounts)]

    @cached_property
    def users(self) -> list[str]:
        """Ids in auth.users, in the order of `accounts`."""
        rng = self.rng("user ids")
        return [make_uuid(rng) for _ in range(self.scale.accounts)]

    @cached_property
    def tags(self) -> dict[str, str]:
        """Tag slug to tag id."""
        rng = self.rng("tag ids")
        return {slug: make_uuid(rng) for slug, _name, _color in TAGS}

    @cached_property
    def activities(self) -> list[Activity]:
        """The catalogue: every experience several times, as if of several vendors."""
        rng = self.rng("activity ids")
        return [
            Activity(make_uuid(rng), f"{e.slug}-{n}" if n else e.slug, f"{e.title} {n}" if n else e.title, e)
            for n in range(4)
            for e in EXPERIENCES
        ]

    @property
    def midnight(self) -> datetime:
        """The start of today in UTC."""
        return self.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def make_uuid(rng: random.Random) -> str:
    """A random (version 4) UUID in the usual spelling."""
    digits = f"{rng.getrandbits(128) & UUID_VERSION_MASK | UUID_VERSION_4:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def often_the_first(rng: random.Random, values: Sequence[T]) -> T:
    """Pick with a long tail: the front of the list is picked far more often than its end."""
    return values[int(len(values) * rng.random() ** 2.5)]


def email_of(number: int) -> str:
    """The e-mail address of account number `number`."""
    return f"traveler{number:06d}@example.com"
