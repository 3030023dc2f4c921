"""Nothing of ours holds a column, type, view or function of the application, but for the declared reasons."""

from datetime import UTC, datetime

import pytest

from lifecycle.migrating.exceptions import REASONS, pins, unexcused
from lifecycle.migrating.migrate import upgrade
from lifecycle.partitions.convert import convert_table
from sandbox.application import apply_december
from tests.conftest import MakeApplicationDb
from tests.declared import APPLICATION, EVENT_TABLES
from tests.migrating import session

# What a careless edition of ours would leave behind.
CARELESS = """
create table lifecycle.careless (status public.account_status);
create function lifecycle.counted() returns bigint language sql begin atomic select count(*) from public.accounts; end;
insert into lifecycle.own_functions (signature, file, hash) values ('lifecycle.counted()', 'ledger/counted.sql', '');
create trigger lifecycle_careless after update of locale on public.account_profiles
    for each row execute function suppress_redundant_updates_trigger();
create view lifecycle.peeked as select * from public.session_details;
"""


def test_nothing_is_held_but_for_a_reason(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    for table in EVENT_TABLES:
        convert_table(url, table, split_now=True, now=datetime.now(UTC), progress=lambda _what, _done: None)
    with session(url) as conn:
        found = pins(conn, APPLICATION)
        assert unexcused(found) == ()
        assert {pin.kind for pin in found} == {reason.kind for reason in REASONS}
        assert all(pin.object.startswith("policy lifecycle: ") for pin in found if pin.kind == "policy")


@pytest.mark.every_version
def test_nothing_is_held_in_december(make_application_db: MakeApplicationDb) -> None:
    url = make_application_db(rows=False, migrated=True)
    apply_december(url)
    upgrade(url, APPLICATION)
    with session(url) as conn:
        assert unexcused(pins(conn, APPLICATION)) == ()


@pytest.mark.one_server
def test_what_holds_something_is_seen(make_application_db: MakeApplicationDb) -> None:
    with session(make_application_db(rows=False, migrated=True)) as conn:
        conn.execute(CARELESS.encode())
        held = {(pin.kind, pin.pinned) for pin in unexcused(pins(conn, APPLICATION))}
        assert {
            ("relation", "type account_status"),
            ("trigger", "column locale of table account_profiles"),
            ("view", "column account_id of view session_details"),
        } <= held
        assert any(kind == "function" and "table accounts" in pinned for kind, pinned in held)
