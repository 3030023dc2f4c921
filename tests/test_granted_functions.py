"""What a role of the API may execute it can complete, as far as it could without us: nothing is granted that ends in a
refusal further in.
"""

from collections.abc import Mapping
from typing import Final

import psycopg
import pytest
from psycopg import sql

from lifecycle.database import connect, rows
from tests.conftest import AsRole, MakeApplicationDb

pytestmark = pytest.mark.one_server

ROLES: Final = ("anon", "authenticated", "ops", "service_role")
# Somebody with a conversation: account, sign-in user, conversation.
SOMEBODY: Final = """
select c.account_id, l.supabase_user_id, c.id from chat_sessions c join account_linkages l using (account_id) limit 1
"""
GRANTED: Final = """
select r.role, format('%%I.%%I', n.nspname, p.proname) from unnest(%s::text[]) r(role) join pg_roles on rolname = r.role
 cross join pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname in ('public', 'private', 'lifecycle') and p.prorettype <> 'trigger'::regtype
   and has_schema_privilege(r.role, n.oid, 'usage') and has_function_privilege(r.role, p.oid, 'execute')
   and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
"""
# A call that means something, where one without arguments is none.
ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "public.archived_chat_messages": ("session",),
    "public.figures_as_of": ("public.data_quality_metrics",),
    "public.get_account_activity_summary": ("account",),
    "public.get_metric_trend": ("sessions",),
    "public.recommend_activities": ("account",),
    "public.search_chat_titles": ("Trip",),
}
Outcomes = dict[tuple[str, str], str]


def outcomes(url: str, as_role: AsRole) -> Outcomes:
    """How each granted function ends for each role: the SQLSTATE, "" where it completes."""
    with connect(url) as conn:
        granted = rows(conn, GRANTED, (list(ROLES),))
        account, user, session = rows(conn, SOMEBODY)[0]
    known = {"account": account, "session": session}
    found: Outcomes = {}
    for role, function in granted:
        given = [known.get(word, word) for word in ARGUMENTS.get(function, ())]
        call = sql.SQL("select * from {}({})").format(
            sql.Identifier(*function.split(".")), sql.SQL(", ").join([sql.Placeholder()] * len(given))
        )
        with as_role(url, role, {"sub": str(user)}) as conn:
            try:
                conn.execute(call, given)
                found[role, function] = ""
            except psycopg.Error as error:
                found[role, function] = error.sqlstate or type(error).__name__
            conn.rollback()
    return found


def test_what_is_granted_completes(make_application_db: MakeApplicationDb, as_role: AsRole) -> None:
    before = outcomes(make_application_db(), as_role)
    after = outcomes(make_application_db(migrated=True), as_role)
    theirs = {function: before["service_role", function] for _, function in before}
    ours = {key: ended for key, ended in after.items() if key[1] not in theirs}
    assert {function for _, function in ours} >= {"public.figures_as_of", "public.archived_chat_messages"}
    assert {key: ended for key, ended in ours.items() if ended} == {}
    # What ends in an error did so before: of the role, or, of one that is ours, of the back end.
    worse = {
        key: ended
        for key, ended in after.items()
        if key[1] in theirs and ended and ended != before.get(key, theirs[key[1]])
    }
    assert worse == {}
