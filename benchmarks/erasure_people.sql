-- People with a history in every table: about sixty rows each, a part of each visit before signing in.
-- `benchmark.accounts` says how many. Read by benchmarks/erasure_data.py, with foreign keys and triggers off.

create function pg_temp.made(kind text, number text) returns uuid language sql immutable as $$ select md5(kind || number)::uuid $$;
create function pg_temp.visit(person int, number int) returns text language sql immutable as $$
    select 'sess_' || 1700000000000 + person || '_' || left(md5('visit' || person || '/' || number), 9)
$$;
create temp view people as select i from generate_series(1, current_setting('benchmark.accounts')::int) i;

insert into accounts (id, created_at) select pg_temp.made('account', i::text), now() - interval '3 years' from people;
insert into auth.users (id, email, email_confirmed_at)
select pg_temp.made('user', i::text), 'user' || i || '@mail.example', now() from people;
insert into account_linkages (account_id, supabase_user_id)
select pg_temp.made('account', i::text), pg_temp.made('user', i::text) from people;
insert into account_profiles (account_id, display_name, preferences)
select pg_temp.made('account', i::text), '旅人' || i, '{"notifications": {"email": true}}' from people;
insert into account_metadata (account_id) select pg_temp.made('account', i::text) from people;
insert into consent_history (account_id, consent_version, preferences, ip_address, user_agent)
select pg_temp.made('account', i::text), 'v' || n, '{}', '10.0.0.0'::inet + i, 'Mozilla/5.0 (Linux; Android 15; Pixel 9)'
  from people, generate_series(1, 2) n;

insert into user_behavior_events
       (account_id, session_id, event_timestamp, page_url, user_agent, referrer, actions, performance, engagement)
select case when n % 15 <> 0 then pg_temp.made('account', i::text) end, pg_temp.visit(i, n / 5),
       now() - random() * interval '700 days', '/experiences/' || (n * 37 + i) % 300,
       'Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0 Mobile Safari/537.36',
       'https://search.example/', '[{"t": 5014, "type": "click", "target": "#b14"}]', '{"cls": 0.07, "lcp": 1973}',
       '{"timeOnPage": 11, "scrollDepth": 2}'
  from people, generate_series(0, 21) n;
insert into business_metrics_events (account_id, session_id, event_timestamp, page_url, revenue_metrics, user_journey)
select pg_temp.made('account', i::text), pg_temp.visit(i, n), now() - random() * interval '700 days', '/booking',
       '{"amount": 5000}', '{"steps": ["search", "detail", "book"]}'
  from people, generate_series(0, 2) n;
insert into session_replay_events (session_id, event_type, event_data, "timestamp")
select pg_temp.visit(i, n), 'input', '{"type": 3, "data": {"source": 5, "text": "福井 恐竜博物館", "id": 31}}',
       now() - random() * interval '80 days'
  from people, generate_series(0, 3) n;
insert into search_queries (account_id, session_id, search_query, page_url, searched_at)
select pg_temp.made('account', i::text), pg_temp.visit(i, n), '温泉 ' || n, '/search', now() - random() * interval '700 days'
  from people, generate_series(0, 2) n;

insert into chat_sessions (id, account_id, title, started_at, last_activity_at)
select pg_temp.made('chat', i || '/' || n), pg_temp.made('account', i::text), '東尋坊への旅',
       now() - (i * 37 + n * 1009) % 130000 * interval '1 minute', now() - (i * 37 + n * 1009) % 130000 * interval '1 minute'
  from people, generate_series(0, 1) n;
insert into chat_messages (session_id, sequence, role, content, tool_calls, latency_ms, created_at)
select s.id, n, (array['user', 'assistant', 'tool'])[1 + n % 3], repeat('福井の旅をおすすめします。', 6),
       case when n % 3 = 2 then '[{"tool": "search_activities"}]'::jsonb end, case when n % 3 = 1 then 900 end,
       s.started_at + n * interval '1 minute'
  from chat_sessions s, generate_series(0, 5) n;

insert into quiz_sessions (id, account_id) select pg_temp.made('quiz', i::text), pg_temp.made('account', i::text) from people;
insert into quiz_answers (session_id, question_ref, answer_value)
select pg_temp.made('quiz', i::text), 'q' || n, '["onsen"]' from people, generate_series(1, 3) n;
insert into quiz_results (session_id, account_id, result_type)
select pg_temp.made('quiz', i::text), pg_temp.made('account', i::text), 'travel_type' from people;
insert into recommendation_runs (id, account_id, trigger)
select pg_temp.made('run', i::text), pg_temp.made('account', i::text), 'quiz_result' from people;
insert into recommendation_items (run_id, rank)
select pg_temp.made('run', i::text), n from people, generate_series(1, 3) n;
insert into activity_interactions (account_id, activity_slug, interaction_type)
select pg_temp.made('account', i::text), 'tojinbo', 'view' from people, generate_series(1, 4) n;

insert into form_submissions (id, account_id, email, first_name)
select pg_temp.made('form', i::text), pg_temp.made('account', i::text), 'user' || i || '@mail.example', '花子'
  from people where i % 3 = 0;
insert into vouchers (id, form_submission_id, voucher_code, qr_token)
select pg_temp.made('voucher', i::text), pg_temp.made('form', i::text), 'V' || i, md5('qr' || i) from people where i % 3 = 0;
insert into voucher_redemptions (voucher_id, scan_context)
select pg_temp.made('voucher', i::text), '{"gate": "north"}' from people where i % 6 = 0;
insert into audit_events (entity_type, entity_id, event_type, performed_by, payload)
select 'account', pg_temp.made('account', i::text), 'signed_in', pg_temp.made('account', i::text), '{"ip": "10.1.1.1"}' from people;
