"""The replica is the application's schema, and the emulation behaves as Supabase does towards the API roles."""

import psycopg
import pytest
from psycopg import sql

from sandbox.application import apply_december
from sandbox.server import SUPERUSER, Server
from tests import replica_catalog


def test_the_replica_has_the_applications_catalog(empty_application_db):
    assert replica_catalog.found(empty_application_db) == replica_catalog.expected("november")


def test_december_leads_to_the_applications_catalog(make_application_db):
    url = make_application_db(rows=False, december=True)
    assert replica_catalog.found(url) == replica_catalog.expected("december")


def test_december_runs_on_an_adopted_database_as_on_any_other(make_application_db):
    url = make_application_db(migrated=True)
    apply_december(url)
    found = replica_catalog.found(url)["relations"]
    for relation, parts in replica_catalog.expected("december")["relations"].items():
        assert found[relation]["columns"] == parts["columns"], relation
        assert found[relation]["kind"].split(",")[0] == parts["kind"].split(",")[0], relation
        for part in ("constraints", "indexes", "triggers", "policies"):
            # Ours may stand beside them.
            assert set(parts.get(part, ())) <= set(found[relation].get(part, ())), (relation, part)


def test_every_view_answers_with_rows(application_db):
    with psycopg.connect(application_db) as conn:
        for view in _views(conn):
            assert conn.execute(sql.SQL("select * from {}").format(sql.Identifier(view))).fetchall(), view
        for refresh in ("refresh_chat_analytics", "refresh_content_analytics"):
            conn.execute(sql.SQL("select {}()").format(sql.Identifier(refresh)))
        conn.execute("refresh materialized view concurrently daily_user_behavior_summary")


def _views(conn: psycopg.Connection) -> list[str]:
    query = "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('v', 'm')"
    return [view for (view,) in conn.execute(query)]


def test_december_moves_profiles_and_quizzes_and_keeps_the_rest(application_db):
    with psycopg.connect(application_db) as conn:
        profiles = conn.execute("select account_id, to_jsonb(p) - 'account_id' from account_profiles p").fetchall()
        quizzes = conn.execute("select id, account_id, travel_type_code from quiz_results order by id").fetchall()
        messages = conn.execute("select count(*), sum(sequence) from chat_messages").fetchone()
    apply_december(application_db)
    with psycopg.connect(application_db) as conn:
        assert sorted(conn.execute("select id, profile from accounts where profile <> '{}'"), key=str) == sorted(
            profiles, key=str
        )
        moved = conn.execute("select id, account_id, travel_type_code from quiz_sessions order by id")
        assert moved.fetchall() == quizzes
        answered = "select bool_or(answers <> '{}'), bool_and(status = 'completed'), bool_and(result ? 'type')"
        assert conn.execute(f"{answered} from quiz_sessions").fetchone() == (True, True, True)
        assert conn.execute("select count(*), sum(sequence) from chat_messages").fetchone() == messages
        conn.execute("select refresh_daily_kpi_summary()")
        for view in set(_views(conn)) - {"page_dwell_summary", "quiz_completion_rates"}:
            assert conn.execute(sql.SQL("select * from {}").format(sql.Identifier(view))).fetchall(), view


def test_the_owner_is_no_superuser_and_owns_the_publication(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        assert conn.execute("select rolsuper, rolbypassrls from pg_roles where rolname = current_user").fetchone() == (
            False,
            True,
        )
        assert conn.execute("select distinct tableowner from pg_tables where schemaname = 'public'").fetchall() == [
            ("postgres",)
        ]
        published = conn.execute(
            "select pubowner::regrole::text, tablename from pg_publication join pg_publication_tables using (pubname)"
        )
        assert published.fetchall() == [("postgres", "chat_messages")]


@pytest.mark.parametrize("auto_grant", [True, False])
def test_new_tables_are_open_to_the_api_only_with_auto_grant(make_application_db, auto_grant):
    with psycopg.connect(make_application_db(rows=False, auto_grant=auto_grant)) as conn:
        conn.execute("create table later (id integer)")
        new, old = conn.execute(
            "select has_table_privilege('anon', 'later', 'select'), "
            "has_table_privilege('anon', 'user_behavior_events', 'insert')"
        ).fetchall()[0]
    assert (new, old) == (auto_grant, True)


@pytest.mark.parametrize("auto_grant", [True, False])
@pytest.mark.parametrize("role", ["anon", "authenticated", "service_role"])
def test_the_api_can_record_events(make_application_db, as_role, auto_grant, role):
    url = make_application_db(rows=False, auto_grant=auto_grant)
    with as_role(url, role) as conn:
        assert conn.execute("select current_user, session_user, auth.role()").fetchone() == (
            role,
            "authenticator",
            role,
        )
        conn.execute("insert into user_behavior_events (session_id, page_url) values ('s', '/')")
    with psycopg.connect(url) as conn:
        assert conn.execute("select count(*) from user_behavior_events").fetchone() == (1,)


def test_policies_show_own_rows_only(application_db, as_role):
    with psycopg.connect(application_db) as conn:
        account, user = conn.execute(
            "select account_id, supabase_user_id from account_linkages "
            "where account_id in (select account_id from chat_sessions) and supabase_user_id is not null limit 1"
        ).fetchall()[0]
    with as_role(application_db, "authenticated", {"sub": str(user)}) as conn:
        assert conn.execute("select auth_account_id()").fetchone() == (account,)
        assert conn.execute("select distinct account_id from chat_sessions").fetchall() == [(account,)]
        assert conn.execute("select count(*) from vendors").fetchone() == (0,)
    with as_role(application_db, "service_role") as conn:
        assert conn.execute("select count(*) > 1 from vendors").fetchone() == (True,)


def test_is_service_role_raises_on_an_empty_setting(empty_application_db):
    with psycopg.connect(empty_application_db) as conn:
        assert conn.execute("select is_service_role()").fetchone() == (None,)
        conn.execute("select set_config('request.jwt.claims', '', true)")
        with pytest.raises(psycopg.errors.InvalidTextRepresentation):
            conn.execute("select is_service_role()")


def test_maintenance_deletes_and_swallows_errors(application_db):
    with psycopg.connect(application_db) as conn:
        (report,) = conn.execute("select run_daily_maintenance()").fetchall()[0]
        assert report.startswith("Daily maintenance completed")
        expired = conn.execute(
            "select exists (select from session_replay_events where timestamp < now() - interval '90 days')"
        )
        assert expired.fetchone() == (False,)
        conn.execute("alter table session_replay_events rename to gone")
        (report,) = conn.execute("select run_daily_maintenance()").fetchall()[0]
        assert report.startswith("Daily maintenance failed")


def test_touch_updated_at(application_db):
    with psycopg.connect(application_db) as conn:
        conn.execute("update account_profiles set locale = locale")
        assert conn.execute("select bool_and(updated_at = now()) from account_profiles").fetchone() == (True,)


def test_roles_log_in_with_a_password_only(server: Server):
    for user in ("postgres", "authenticator", SUPERUSER):
        wrong = server.url(user=user).replace(f"{user}:", f"{user}:x", 1)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
