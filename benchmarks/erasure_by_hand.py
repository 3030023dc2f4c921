"""The peer: set-based SQL as a careful engineer would write it for just these tables, one transaction per batch.

It knows which columns hold what, keeps no state, cannot be resumed, proves nothing and counts nothing: the limit.
"""

from collections.abc import Sequence
from typing import Final

from lifecycle.database import Connection

STATEMENTS: Final = (
    "create temp table v on commit drop as select unnest(%(accounts)s::uuid[]) as account_id",
    "analyze v",
    """create temp table v_users on commit drop as
        select l.supabase_user_id as id from account_linkages l join v using (account_id)""",
    """create temp table v_email on commit drop as
        select lower(u.email) as email from auth.users u join v_users using (id)""",
    "create temp table v_cs on commit drop as select s.id from chat_sessions s join v using (account_id)",
    "create temp table v_qs on commit drop as select s.id from quiz_sessions s join v using (account_id)",
    "create temp table v_rr on commit drop as select r.id from recommendation_runs r join v using (account_id)",
    """create temp table v_ws on commit drop as
        select session_id from user_behavior_events e join v using (account_id)
         union select session_id from business_metrics_events b join v using (account_id)
         union select session_id from search_queries q join v using (account_id)""",
    "analyze v_cs",
    "analyze v_qs",
    "analyze v_rr",
    "analyze v_ws",
    """create temp table v_own on commit drop as
        select w.session_id from v_ws w
         where not exists (select from user_behavior_events e where e.session_id = w.session_id
                              and e.account_id is not null and e.account_id not in (select account_id from v))""",
    "analyze v_own",
    """create temp table v_fs on commit drop as
        select f.id from form_submissions f join v using (account_id)""",
    "analyze v_fs",
    "delete from session_replay_events r using v_ws w where r.session_id = w.session_id",
    """update user_behavior_events e set account_id = null, session_id = 'erased', user_agent = null, referrer = null,
              screen_resolution = null, viewport_size = null, language = null, timezone = null, actions = '[]',
              performance = null, engagement = null, page_url = split_part(page_url, '?', 1)
         from v where e.account_id = v.account_id""",
    """update user_behavior_events e set session_id = 'erased', user_agent = null, referrer = null,
              screen_resolution = null, viewport_size = null, language = null, timezone = null, actions = '[]',
              performance = null, engagement = null, page_url = split_part(page_url, '?', 1)
         from v_own o where e.session_id = o.session_id and e.account_id is null""",
    """update business_metrics_events b set account_id = null, session_id = 'erased', user_journey = null,
              customer_satisfaction = null, page_url = split_part(page_url, '?', 1)
         from v where b.account_id = v.account_id""",
    """update business_metrics_events b set session_id = 'erased', user_journey = null,
              customer_satisfaction = null, page_url = split_part(page_url, '?', 1)
         from v_own o where b.session_id = o.session_id and b.account_id is null""",
    "delete from search_queries q using v where q.account_id = v.account_id",
    "delete from search_queries q using v_own o where q.session_id = o.session_id and q.account_id is null",
    "delete from chat_messages m using v_cs s where m.session_id = s.id",
    "delete from chat_messages_archive m using v_cs s where m.session_id = s.id",
    "delete from generated_activities g using v_cs s where g.chat_session_id = s.id",
    "delete from chat_sessions s using v_cs c where s.id = c.id",
    "delete from quiz_answers a using v_qs s where a.session_id = s.id",
    "delete from quiz_results r using v where r.account_id = v.account_id",
    "delete from quiz_sessions s using v_qs c where s.id = c.id",
    "delete from recommendation_items i using v_rr r where i.run_id = r.id",
    "delete from recommendation_runs r using v_rr c where r.id = c.id",
    "delete from generated_activity_saves s using v where s.account_id = v.account_id",
    "delete from activity_interactions i using v where i.account_id = v.account_id",
    """update voucher_redemptions r set scan_context = '{}' from vouchers w, v_fs f
        where r.voucher_id = w.id and w.form_submission_id = f.id""",
    "update vouchers w set metadata = '{}', qr_token = null from v_fs f where w.form_submission_id = f.id",
    """update form_submissions f set account_id = null, email = 'erased', phone_number = null, first_name = null,
              last_name = null, qr_code_data = null, user_agent = null, ip_address = null, referrer = null
         from v_fs s where f.id = s.id""",
    "update consent_history c set ip_address = null, user_agent = null from v where c.account_id = v.account_id",
    """update audit_events e set payload = '{}', performed_by = null, entity_id = 'erased' from v
        where e.entity_type = 'account' and e.entity_id = v.account_id::text""",
    "update vendor_members m set account_id = null, supabase_user_id = null from v where m.account_id = v.account_id",
    "delete from account_metadata m using v where m.account_id = v.account_id",
    "delete from account_profiles p using v where p.account_id = v.account_id",
    "delete from account_linkages l using v where l.account_id = v.account_id",
    "update accounts a set status = 'deleted', onboarding_state = '{}' from v where a.id = v.account_id",
    """update data_deletion_requests r set status = 'completed', completed_at = now(), request_reason = null
         from v where r.account_id = v.account_id""",
)


def erase_by_hand(conn: Connection, accounts: Sequence[str], batch: int) -> None:
    """Erase these accounts, `batch` of them in one transaction."""
    for first in range(0, len(accounts), batch):
        with conn.transaction():
            for statement in STATEMENTS:
                parameters = {"accounts": list(accounts[first : first + batch])} if "%(" in statement else None
                conn.execute(statement.encode(), parameters)
