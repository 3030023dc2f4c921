-- Row-level security, as the application has it. The event tables, searches, consent history, deletion requests,
-- quiz forms, linkages, reviews and mapping tables have none.

alter table account_metadata enable row level security;
create policy "Accounts can update own metadata" on account_metadata for update
    using (account_id = auth_account_id())
    with check (account_id = auth_account_id());
create policy "Accounts can view own metadata" on account_metadata for select
    using (account_id = auth_account_id() or is_service_role());

alter table account_profiles enable row level security;
create policy "Accounts can update own profile" on account_profiles for update
    using (account_id = auth_account_id())
    with check (account_id = auth_account_id());
create policy "Accounts can view own profile" on account_profiles for select
    using (account_id = auth_account_id() or is_service_role());
create policy "Service role can manage all profiles" on account_profiles
    using (is_service_role())
    with check (is_service_role());

alter table accounts enable row level security;
create policy "Accounts can view own account" on accounts for select
    using ((id in (select l.account_id from account_linkages l where l.supabase_user_id = auth.uid()))
        or is_service_role());
create policy "Service role can manage all accounts" on accounts
    using (is_service_role())
    with check (is_service_role());

alter table activities enable row level security;
create policy "Public can view published activities" on activities for select
    using (status = 'published' or is_active = true or is_service_role());

alter table activity_assets enable row level security;
create policy "Public can view activity assets" on activity_assets for select
    using ((activity_id in (select a.id from activities a where a.status = 'published' or a.is_active = true))
        or is_service_role());

alter table activity_categories enable row level security;
create policy "Public can view active categories" on activity_categories for select
    using (is_active = true or is_service_role());

alter table activity_interactions enable row level security;
create policy "Accounts can delete own interactions" on activity_interactions for delete
    using (account_id = auth_account_id()
        or (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role');
create policy "Accounts can insert own interactions" on activity_interactions for insert
    with check (account_id = auth_account_id()
        or (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role');
create policy "Accounts can update own interactions" on activity_interactions for update
    using (account_id = auth_account_id()
        or (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role')
    with check (account_id = auth_account_id()
        or (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role');
create policy "Accounts can view own interactions" on activity_interactions for select
    using (account_id = auth_account_id()
        or (current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role');
create policy "Service role can manage all interactions" on activity_interactions
    using ((current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role'
        or (current_setting('request.jwt.claims', true)::json ->> 'role') is null)
    with check ((current_setting('request.jwt.claims', true)::json ->> 'role') = 'service_role'
        or (current_setting('request.jwt.claims', true)::json ->> 'role') is null);

alter table activity_tags enable row level security;
create policy "Public can view active tags" on activity_tags for select using (is_active = true or is_service_role());

alter table article_translations enable row level security;
create policy "Public can view published translations" on article_translations for select
    using (status = 'published' or is_service_role());
create policy "Service role can manage all translations" on article_translations
    using (is_service_role())
    with check (is_service_role());

alter table article_versions enable row level security;
create policy "Service role can view article versions" on article_versions for select using (is_service_role());
create policy "Service role can manage article versions" on article_versions
    using (is_service_role())
    with check (is_service_role());

alter table articles enable row level security;
create policy "Public can view published articles" on articles for select
    using (status = 'published' or is_service_role());
create policy "Service role can manage all articles" on articles
    using (is_service_role())
    with check (is_service_role());

alter table audit_events enable row level security;
create policy "Service role can insert audit events" on audit_events for insert with check (is_service_role());
create policy "Service role can view audit events" on audit_events for select using (is_service_role());

alter table chat_messages enable row level security;
create policy "Accounts can insert own chat messages" on chat_messages for insert
    with check (session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()));
create policy "Accounts can view own chat messages" on chat_messages for select
    using ((session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role());

alter table chat_session_summaries enable row level security;
create policy "Accounts can insert own chat session summaries" on chat_session_summaries for insert
    with check ((session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role());
create policy "Accounts can update own chat session summaries" on chat_session_summaries for update
    using ((session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role())
    with check ((session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role());
create policy "Accounts can view own chat session summaries" on chat_session_summaries for select
    using ((session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role());

alter table chat_sessions enable row level security;
create policy "Accounts can insert own chat sessions" on chat_sessions for insert
    with check (account_id = auth_account_id());
create policy "Accounts can update own chat sessions" on chat_sessions for update
    using (account_id = auth_account_id())
    with check (account_id = auth_account_id());
create policy "Accounts can view own chat sessions" on chat_sessions for select
    using (account_id = auth_account_id() or is_service_role());

alter table form_submissions enable row level security;
create policy "Users can insert own submissions" on form_submissions for insert
    with check (account_id is null or account_id = auth_account_id());
create policy "Users can view own submissions" on form_submissions for select
    using (account_id = auth_account_id() or is_service_role());

alter table generated_activities enable row level security;
create policy "Accounts can view own generated activities" on generated_activities for select
    using ((chat_session_id in (select s.id from chat_sessions s where s.account_id = auth_account_id()))
        or is_service_role());
create policy "Service role can manage generated activities" on generated_activities
    using (is_service_role())
    with check (is_service_role());

alter table generated_activity_saves enable row level security;
create policy "Accounts can delete own saved activities" on generated_activity_saves for delete
    using (account_id = auth_account_id());
create policy "Accounts can insert own saved activities" on generated_activity_saves for insert
    with check (account_id = auth_account_id());
create policy "Accounts can view own saved activities" on generated_activity_saves for select
    using (account_id = auth_account_id() or is_service_role());

alter table quiz_answers enable row level security;
create policy "Accounts can insert own quiz answers" on quiz_answers for insert
    with check (session_id in (select s.id from quiz_sessions s where s.account_id = auth_account_id()));
create policy "Accounts can view own quiz answers" on quiz_answers for select
    using ((session_id in (select s.id from quiz_sessions s where s.account_id = auth_account_id()))
        or is_service_role());

alter table quiz_results enable row level security;
create policy "Accounts can insert own quiz results" on quiz_results for insert
    with check (account_id = auth_account_id());
create policy "Accounts can view own quiz results" on quiz_results for select
    using (account_id = auth_account_id() or is_service_role());

alter table quiz_sessions enable row level security;
create policy "Accounts can insert own quiz sessions" on quiz_sessions for insert
    with check (account_id = auth_account_id());
create policy "Accounts can update own quiz sessions" on quiz_sessions for update
    using (account_id = auth_account_id())
    with check (account_id = auth_account_id());
create policy "Accounts can view own quiz sessions" on quiz_sessions for select
    using (account_id = auth_account_id() or is_service_role());

alter table recommendation_items enable row level security;
create policy "Accounts can view own recommendation items" on recommendation_items for select
    using ((run_id in (select r.id from recommendation_runs r where r.account_id = auth_account_id()))
        or is_service_role());

alter table recommendation_runs enable row level security;
create policy "Accounts can insert own recommendations" on recommendation_runs for insert
    with check (account_id = auth_account_id());
create policy "Accounts can view own recommendations" on recommendation_runs for select
    using (account_id = auth_account_id() or is_service_role());

alter table vendor_members enable row level security;
create policy "Vendor members can view own vendor" on vendor_members for select
    using (account_id = auth_account_id() or is_service_role());

alter table vendors enable row level security;
create policy "Service role can manage vendors" on vendors using (is_service_role()) with check (is_service_role());

alter table voucher_redemptions enable row level security;
create policy "Service role can view all redemptions" on voucher_redemptions for select using (is_service_role());

alter table vouchers enable row level security;
create policy "Users can view own vouchers" on vouchers for select
    using ((form_submission_id in (select f.id from form_submissions f where f.account_id = auth_account_id()))
        or is_service_role());
