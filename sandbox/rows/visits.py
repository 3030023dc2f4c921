"""Visits to the site: the sessions that page views, business events, replays and searches have in common."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple

from sandbox.rows.copying import NULL
from sandbox.rows.world import World, often_the_first

# Seconds of the day as text, made once: formatting each time stamp would cost half of the generator's time.
CLOCK: Final = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86_400)]
# Hours of the day in UTC, as often as visitors in Japan come: few at night (15 to 21 UTC), most in the evening.
HOURS: Final = [hour for hour in range(24) for _ in range(1 if 15 <= hour < 22 else 6 if 9 <= hour < 14 else 4)]
BUSY_DAYS: Final = 3  # the last days see enough visits for a fresh database to count as healthy
BUSY_PAGE_VIEWS: Final = 260
LONGEST_STEP: Final = 60
BASE_36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


class Visit(NamedTuple):
    """One session. `account` and `second_account` are COPY text: an id, or NULL for an anonymous visitor.

    Pages before `login_page` are anonymous, pages from `handover_page` on belong to `second_account`.
    """

    session_id: str
    account: str
    second_account: str
    login_page: int
    handover_page: int
    device: int
    date: str
    days_ago: int
    start: int
    step: int
    pages: int

    def account_at(self, page: int) -> str:
        """Whose page view number `page` is, as COPY text."""
        if page < self.login_page:
            return NULL
        return self.account if page < self.handover_page else self.second_account

    def time_at(self, page: int, microsecond: int) -> str:
        """When page number `page` was opened, as COPY text in UTC."""
        return f"{self.date} {CLOCK[self.start + self.step * page]}.{microsecond:06d}+00"


def visits(world: World) -> Iterator[Visit]:
    """All sessions in order of their day, until the scale's page views are used up."""
    rng = world.rng("visits")
    random = rng.random
    days = world.scale.event_days
    # Traffic grows fourfold; weekends are busier.
    weights = [
        (1 + 3 * number / days) * (1.4 if (world.midnight - timedelta(days=days - 1 - number)).weekday() > 4 else 1)
        for number in range(days)
    ]
    share = world.scale.page_views / sum(weights)
    budget = 0.0
    for number, weight in enumerate(weights):
        days_ago = days - 1 - number
        day = world.midnight - timedelta(days=days_ago)
        end = 86_400 if days_ago else int((world.now - world.midnight).total_seconds())
        wanted = weight * share
        if days_ago < BUSY_DAYS:
            wanted = max(wanted, BUSY_PAGE_VIEWS)
        budget += wanted * end / 86_400
        date, midnight = f"{day:%Y-%m-%d}", int(day.timestamp())
        while budget > 0:
            pages = 1 + int(16 * random() ** 2)
            budget -= pages
            step = 5 + int((LONGEST_STEP - 5) * random())
            start = HOURS[int(len(HOURS) * random())] * 3600 + int(3600 * random())
            chance = random()
            account = NULL if chance < 0.03 else often_the_first(rng, world.accounts)
            shared = chance > 0.993
            opened = 1000 * (midnight + start) + int(1000 * random())
            name = "".join(rng.choices(BASE_36, k=9))
            visit = Visit(
                # The application's two ways to name a session.
                session_id=f"{opened}-{name}" if chance < 0.5 else f"sess_{opened}_{name}",
                account=account,
                second_account=often_the_first(rng, world.accounts) if shared else account,
                login_page=1 + pages // 3 if chance > 0.96 else 0,
                handover_page=1 + pages // 2 if shared else pages,
                device=int(6 * random()),
                date=date,
                days_ago=days_ago,
                start=max(0, min(start, end - step * pages - 2)),
                step=step,
                pages=pages,
            )
            # A day that has hardly begun has no room for a whole visit.
            if visit.start + step * pages < end:
                yield visit
