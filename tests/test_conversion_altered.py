"""The application changes its table while the months are copied: nothing is switched, the next run copies again."""

from collections.abc import Callable
from datetime import datetime

import pytest

from lifecycle.database import connect, value
from lifecycle.errors import BusyError
from lifecycle.partitions.convert import convert_table
from tests.conversion_load import BEHAVIOUR, FEW_MONTHS, at_step, convert, fill, fingerprint, leftovers

# What Python decides and in which order; the statements run on both versions in the other files.
pytestmark = pytest.mark.one_server
MakeDb = Callable[..., str]
CHANGES = {
    "a column": "alter table user_behavior_events add column campaign text default 'none'",
    "an index": "create index user_behavior_events_language_idx on user_behavior_events (language)",
    "a check": "alter table user_behavior_events add constraint short_pages check (length(page_url) < 5000)",
    "a default": "alter table user_behavior_events alter column language set default 'ja'",
}


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("step", ["partitions built", "agree in count"])
def test_altered_during_the_copy(make_application_db: MakeDb, now: datetime, change: str, step: str) -> None:
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=300, span=FEW_MONTHS)

    def alter() -> None:
        with connect(url) as application:
            application.execute(CHANGES[change].encode())
            if change == "a column":
                application.execute("update user_behavior_events set campaign = 'spring' where page_url < '/m'")

    with pytest.raises(BusyError, match="was altered while it was copied"):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, alter))
    before = fingerprint(url, BEHAVIOUR)
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []
    with connect(url) as conn:
        partitions = "select count(*) from pg_inherits where inhparent = 'user_behavior_events'::regclass"
        if change == "an index":
            attached = (
                "select count(*) from pg_inherits where inhparent = 'user_behavior_events_language_idx'::regclass"
            )
            assert value(conn, attached) == value(conn, partitions)


@pytest.mark.parametrize("step", ["partitions built", "agree in count"])
def test_triggers_switched_off_for_a_while(make_application_db: MakeDb, now: datetime, step: str) -> None:
    """By somebody who imports into the old table: what the capture did not see is not lost, and a rerun finishes."""
    url = make_application_db(rows=False, migrated=True)
    fill(url, BEHAVIOUR, now, count=300, span=FEW_MONTHS)

    def migrate() -> None:
        with connect(url) as application:
            application.execute("alter table event_partitions.user_behavior_events_legacy disable trigger user")
            application.execute("update user_behavior_events set page_url = '/unseen' where page_url < '/m'")
            application.execute("alter table event_partitions.user_behavior_events_legacy enable trigger user")

    with pytest.raises(BusyError, match="was altered while it was copied"):
        convert_table(url, BEHAVIOUR, now=now, progress=at_step(step, migrate))
    before = fingerprint(url, BEHAVIOUR)
    assert convert(url, BEHAVIOUR, now).outcome == "converted"
    assert fingerprint(url, BEHAVIOUR) == before
    assert leftovers(url) == []
    with connect(url) as conn:
        assert value(conn, "select count(*) from user_behavior_events where page_url = '/unseen'") > 0
