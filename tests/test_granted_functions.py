"""What a role of the API may execute it can complete: nothing is granted that ends in a refusal further in."""

from collections.abc import Mapping
from typing import Final

import psycopg
import pytest

from lifecycle.database import Connection
from tests.people import Person

pytestmark = pytest.mark.one_server

ANN: Final = Person("ann")
GRANTED: Final = """
select p.oid::regprocedure::text
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname in ('public', 'private', 'lifecycle') and p.prorettype <> 'trigger'::regtype
   and has_schema_privilege(%(role)s, n.oid, 'usage') and has_function_privilege(%(role)s, p.oid, 'execute')
   and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
"""
# A call that means something, of each function that a role of the API may execute.
CALLS: Final[Mapping[str, str]] = {
    "archived_chat_messages(uuid)": f"select * from archived_chat_messages('{ANN.id('chat')}')",
    "auth_account_id()": "select auth_account_id()",
    "cleanup_old_tracking_events(integer)": "select cleanup_old_tracking_events(3650)",
    "detect_data_quality_alerts()": "select * from detect_data_quality_alerts()",
    "figures_as_of(text)": "select figures_as_of('public.data_quality_metrics')",
    "get_account_activity_summary(uuid,integer)": f"select * from get_account_activity_summary('{ANN.account}', 30)",
    "get_metric_trend(text,integer)": "select * from get_metric_trend('sessions', 30)",
}


def completed(conn: Connection, call: str) -> str:
    """The SQLSTATE that the call ends with; "" when it succeeds. Nothing of it stays."""
    try:
        with conn.transaction(force_rollback=True):
            conn.execute(call.encode())
    except psycopg.Error as error:
        return f"{error.sqlstate} {error.diag.message_primary}"
    return ""
