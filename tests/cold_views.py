"""Views over cold months for tests: of each kind one, over a database whose months go cold and a twin whose do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lifecycle.cold.storage import ColdStorage
from lifecycle.database import Connection, connect, rows
from lifecycle.declarations.application import Application
from lifecycle.declarations.views import KeptView
from lifecycle.migrating.migrate import upgrade
from lifecycle.names import QualifiedName
from tests.cold import COLD_AFTER, local_storage, month, with_cold_months
from tests.declared import WITHOUT_KEPT_VIEWS
from tests.partitioned import MakePartitionedDb
from tests.people import Person, add_account, add_catalogue, insert

AKI, BEN = Person("aki"), Person("ben")
VIEWS = """
alter table user_behavior_events add column kind account_status default 'active', add column kinds account_status[],
    add column label varchar(20) default 'nothing', add column price numeric(10, 2) default 9.5;
create view told_of_types as
select kind, kinds, label, price, count(*) as events from user_behavior_events group by 1, 2, 3, 4;
create view told_plainly as
select account_id, count(*) as events, count(distinct session_id) as sessions from user_behavior_events
 group by account_id;
create view told_in_order as
select date(e.event_timestamp at time zone 'UTC') as day, count(*) as events, max(length(e.page_url)) as longest
  from user_behavior_events e group by 1 order by 1 desc;
create view told_of_rows as select count(*) as events from user_behavior_events;
create view told_by_moment as
select e.event_timestamp as at, count(*) as events from user_behavior_events e group by e.event_timestamp;
create view told_lately as
select page_url, count(*) as events from user_behavior_events where event_timestamp >= now() - interval '20 days'
 group by 1;
create view told_upon_a_view as select max(events) as most from told_plainly;
create materialized view told_from_disk as
select page_url, count(*) as events, max(event_timestamp) as latest from user_behavior_events group by 1;
create unique index on told_from_disk (page_url);
create view kept_by_account as
select e.account_id, count(*) as events, min(e.event_timestamp) as first from user_behavior_events e
 where e.account_id is not null group by e.account_id;
create view kept_whole as
select count(*) as events, count(distinct session_id) as sessions, count(account_id) as of_accounts
  from user_behavior_events;
"""
FAR = (
    "told_of_types", "told_plainly", "told_in_order", "told_by_moment", "told_of_rows", "told_upon_a_view",
    "told_from_disk", "kept_by_account", "kept_whole",
)  # fmt: skip
NARROW = "event_partitions.user_behavior_events_narrow"
THAWED = "event_partitions.user_behavior_events_thawed"
KEPT = {
    QualifiedName("public", "kept_by_account"): KeptView(key="account_id"),
    QualifiedName("public", "kept_whole"): KeptView(),
}
PLAIN: Application = with_cold_months(
    WITHOUT_KEPT_VIEWS.model_copy(update={"views": WITHOUT_KEPT_VIEWS.views.model_copy(update={"kept": KEPT})})
)
COLD: Application = with_cold_months(PLAIN, user_behavior_events=COLD_AFTER)


@dataclass(frozen=True)
class Twins:
    """Two databases with the same rows and views: months of the one go cold, the other stays as it is."""

    url: str
    plain: str
    storage: ColdStorage

    def figures(self) -> dict[str, list[str]]:
        """What every view says, equal in both databases."""
        with connect(self.url) as conn, connect(self.plain) as plain:
            found, expected = figures(conn), figures(plain)
        assert found == expected
        return found


def figures(conn: Connection) -> dict[str, list[str]]:
    """The rows of every view in their order, refreshed first."""
    conn.execute("set timezone = 'UTC'")
    conn.execute("select lifecycle.refresh_kept_view(v) from lifecycle.kept_views v")
    conn.execute("refresh materialized view told_from_disk")
    found = {view: [text for (text,) in rows(conn, f"select v::text from {view} v")] for view in (*FAR, "told_lately")}
    return {view: told if view == "told_in_order" else sorted(told) for view, told in found.items()}


def make_twins(make: MakePartitionedDb, folder: Path) -> Twins:
    """Months of aki and ben, none of them cold yet."""
    urls = make(), make()
    for url in urls:
        with connect(url) as conn:
            add_catalogue(conn)
            for person in (AKI, BEN):
                add_account(conn, person)
            for back in range(5):
                for event in _events(back):
                    insert(conn, "user_behavior_events", **event)
            conn.execute(VIEWS)
    upgrade(urls[0], COLD)
    upgrade(urls[1], PLAIN)
    return Twins(*urls, local_storage(folder))


def _events(back: int) -> Iterator[dict[str, object]]:
    for person in (AKI, BEN):
        for number in range(3):
            yield {
                "id": person.id(f"event {back} {number}"),
                "account_id": person.account if number else None,
                "session_id": person.visit,
                "event_timestamp": month(back),
                "page_url": f"/page/{number}",
            }


def noted(conn: Connection) -> int:
    """How many changed rows wait for a kept view."""
    (count,) = rows(conn, "select count(*) from lifecycle.changed_rows")[0]
    return int(count)
