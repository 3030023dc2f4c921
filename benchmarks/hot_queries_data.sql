-- Deterministic rows: hashes of the row's number stand for chance. Read by benchmarks/hot_queries_data.py.
-- %(rows)s rows in each of the four tables; accounts, vendors and words are skewed as in life.
create temp table place as select n - 1 as n, w from unnest(string_to_array(
    '京都,東京,大阪,福井,金沢,箱根,奈良,鎌倉,札幌,那覇,広島,仙台,神戸,名古屋,鯖江,永平寺,勝山,敦賀,越前,東尋坊,金閣寺,清水寺,嵐山,'
    '浅草,渋谷,新宿,上野,秋葉原,銀座,道頓堀,Kyoto,Osaka,Tokyo,Fukui,Nara,Eiheiji,Hakone,Kanazawa,富士山,日光,草津,別府,由布院,'
    '熊本,長崎,博多,宮島,松山,小樽,函館', ',')) with ordinality t(w, n);
create temp table wish as select n - 1 as n, w from unnest(string_to_array(
    '旅行の相談,で雨の日に遊べる場所,の温泉宿,で子どもと過ごす一日,の紅葉,観光プラン,の美味しいお店,で恐竜を見る,日帰り旅行,'
    'のおすすめホテル,ランチの店を探して,のお土産,の歴史を知りたい,で着物体験,までの行き方,の夜景, weekend plan, with kids,'
    ' temple walk, food tour, in two days,の桜はいつ,で食べ歩き,のラーメン,の隠れた名所,カフェ巡り,の美術館,一人旅,'
    'のバリアフリー情報,で泊まる旅館,のお祭り,の工芸体験', ',')) with ordinality t(w, n);
create temp table moment as select n - 1 as n, w from unnest(string_to_array(
    ',春の,夏休みに,秋の,冬の,来週の,週末に,家族で,友達と,明日の,Autumn in ,Rainy day: ,連休に,朝から,夜の,初めての', ','))
    with ordinality t(w, n);
create function pg_temp.chance(row_number bigint, salt int) returns float8 language sql immutable as
    'select (hashint8extended(row_number, salt) & 1048575) / 1048576.0';
create function pg_temp.id(number bigint) returns uuid language sql immutable as
    'select lpad(to_hex(number), 32, ''0'')::uuid';

insert into accounts (id) select pg_temp.id(i) from generate_series(1, 20000) i;
insert into vendors (id, name) select pg_temp.id(i), 'Vendor ' || i from generate_series(1, 500) i;
-- Three members each; the sign-in user of a member has the member's number.
insert into vendor_members (id, vendor_id, account_id, supabase_user_id, role, status)
select pg_temp.id(i), pg_temp.id(1 + i %% 500), pg_temp.id(i), pg_temp.id(i), 'staff', 'active'
  from generate_series(1, 1500) i;
insert into account_linkages (account_id, supabase_user_id) select pg_temp.id(i), pg_temp.id(i) from generate_series(1, 1500) i;

insert into activity_interactions (id, account_id, activity_id, activity_slug, interaction_type, created_at, updated_at)
select gen_random_uuid(), pg_temp.id(1 + floor(20000 * power(pg_temp.chance(i, 1), 3))::bigint),
       pg_temp.id(1 + floor(2000 * pg_temp.chance(i, 2))::bigint), 'activity',
       (array['view', 'view', 'view', 'view', 'view', 'view', 'share', 'share', 'qr_scan', 'book'])
           [1 + floor(10 * pg_temp.chance(i, 3))]::interaction_type,
       at, at
  from (select i, now() - i * interval '365 days' / %(rows)s as at from generate_series(1::bigint, %(rows)s) i) s;

insert into search_queries (id, account_id, session_id, search_query, results_count, clicked_result_id, searched_at)
select gen_random_uuid(), pg_temp.id(1 + floor(20000 * pg_temp.chance(i, 1))::bigint), 's' || i / 5,
       (select w from place where n = floor(50 * power(pg_temp.chance(i, 2), 2)))
           || case when i %% 3 > 0 then ' ' || (select w from wish where n = floor(32 * pg_temp.chance(i, 3))) else '' end
           || case when i %% 4 = 0 then ' ' || i %% 5000 else '' end,
       (10 * pg_temp.chance(i, 4))::int,
       case when pg_temp.chance(i, 5) < 0.3 then pg_temp.id(1 + floor(2000 * power(pg_temp.chance(i, 6), 2))::bigint) end,
       now() - i * interval '365 days' / %(rows)s
  from generate_series(1::bigint, %(rows)s) i;

-- One title in twenty is the one that a session begins with; one in five thousand holds a word that nothing else does.
insert into chat_sessions (id, account_id, title, started_at, last_activity_at)
select gen_random_uuid(), pg_temp.id(1 + floor(20000 * pg_temp.chance(i, 1))::bigint),
       case when i %% 20 = 0 then 'New chat'
            when i %% 5000 = 1 then '小浜の町歩き' when i %% 5000 = 2 then '三国湊レトロさんぽ'
            else (select w from moment where n = floor(16 * pg_temp.chance(i, 2)))
              || (select w from place where n = floor(50 * power(pg_temp.chance(i, 3), 2)))
              || (select w from wish where n = floor(32 * pg_temp.chance(i, 4)))
              || case when i %% 3 = 0 then ' ' || i %% 1000 else '' end end,
       at, at
  from (select i, now() - i * interval '365 days' / %(rows)s as at from generate_series(1::bigint, %(rows)s) i) s;

-- Two redemptions per voucher; a tenth was scanned by nobody known. The largest vendor has some percent of all.
insert into voucher_redemptions (id, voucher_id, vendor_member_id, scan_context, scanned_at)
select gen_random_uuid(), pg_temp.id(1 + i / 2),
       case when i %% 10 > 0 then pg_temp.id(1 + floor(1500 * power(pg_temp.chance(i, 1), 2))::bigint) end,
       '{"device": "scanner"}', now() - i * interval '365 days' / %(rows)s
  from generate_series(1::bigint, %(rows)s) i;
