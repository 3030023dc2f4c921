-- Row level security of the application. The event tables, search_queries, consent_history and
-- data_deletion_requests have none.

alter table accounts enable row level security;
create policy "accounts: own row" on accounts using (id = auth_account_id()) with check (id = auth_account_id());
create policy "accounts: service role" on accounts using (is_service_role()) with check (is_service_role());

alter table account_profiles enable row level security;
create policy "account_profiles: own row" on account_profiles
    using (account_id = auth_account_id()) with check (account_id = auth_account_id());
create policy "account_profiles: service role" on account_profiles
    using (is_service_role()) with check (is_service_role());

alter table chat_sessions enable row level security;
create policy "chat_sessions: own rows" on chat_sessions
    using (account_id = auth_account_id()) with check (account_id = auth_account_id());
create policy "chat_sessions: service role" on chat_sessions
    using (is_service_role()) with check (is_service_role());

alter table chat_messages enable row level security;
create policy "chat_messages: own sessions" on chat_messages
    using (exists (select from chat_sessions s
                    where s.id = chat_messages.session_id and s.account_id = auth_account_id()))
    with check (exists (select from chat_sessions s
                         where s.id = chat_messages.session_id and s.account_id = auth_account_id()));
create policy "chat_messages: service role" on chat_messages
    using (is_service_role()) with check (is_service_role());

alter table quiz_forms enable row level security;
create policy "quiz_forms: published ones" on quiz_forms for select using (published);
create policy "quiz_forms: service role" on quiz_forms using (is_service_role()) with check (is_service_role());

alter table quiz_sessions enable row level security;
create policy "quiz_sessions: own rows" on quiz_sessions
    using (account_id = auth_account_id()) with check (account_id = auth_account_id());
create policy "quiz_sessions: service role" on quiz_sessions
    using (is_service_role()) with check (is_service_role());

alter table quiz_answers enable row level security;
create policy "quiz_answers: own sessions" on quiz_answers
    using (exists (select from quiz_sessions s
                    where s.id = quiz_answers.session_id and s.account_id = auth_account_id()))
    with check (exists (select from quiz_sessions s
                         where s.id = quiz_answers.session_id and s.account_id = auth_account_id()));
create policy "quiz_answers: service role" on quiz_answers
    using (is_service_role()) with check (is_service_role());

alter table quiz_results enable row level security;
create policy "quiz_results: own rows" on quiz_results
    using (account_id = auth_account_id()) with check (account_id = auth_account_id());
create policy "quiz_results: service role" on quiz_results
    using (is_service_role()) with check (is_service_role());

alter table form_submissions enable row level security;
create policy "form_submissions: own rows" on form_submissions
    using (account_id = auth_account_id()) with check (account_id = auth_account_id());
create policy "form_submissions: service role" on form_submissions
    using (is_service_role()) with check (is_service_role());

alter table vouchers enable row level security;
create policy "vouchers: own bookings" on vouchers for select
    using (exists (select from form_submissions f
                    where f.id = vouchers.form_submission_id and f.account_id = auth_account_id()));
create policy "vouchers: service role" on vouchers using (is_service_role()) with check (is_service_role());

alter table voucher_redemptions enable row level security;
create policy "voucher_redemptions: service role" on voucher_redemptions
    using (is_service_role()) with check (is_service_role());

alter table vendors enable row level security;
create policy "vendors: service role" on vendors using (is_service_role()) with check (is_service_role());

alter table vendor_members enable row level security;
create policy "vendor_members: own membership" on vendor_members for select using (account_id = auth_account_id());
create policy "vendor_members: service role" on vendor_members
    using (is_service_role()) with check (is_service_role());

alter table audit_events enable row level security;
create policy "audit_events: service role" on audit_events
    using (is_service_role()) with check (is_service_role());
