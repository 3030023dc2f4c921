-- A few rows in each of the last months; $id$ stands for nobody that exists.
insert into shop."User" ("id", "email", "fullName", "createdAt")
select format('user_2%s', translate(substr(md5('person ' || n), 1, 26), '0123456789', 'QWERTYUIOP')), format('person%s@example.com', n),
       format('Person %s', n), (now() at time zone 'Asia/Tokyo') - interval '150 days'
  from generate_series(1, 40) n;

insert into shop."Order" ("userId", "totalYen", "shipTo", "placedAt")
select u."id", 1000 + 10 * n, format('%s, 1-2-%s Minato', u."fullName", n), (now() at time zone 'Asia/Tokyo') - n * interval '20 days'
  from shop."User" u cross join generate_series(1, 5) n;

insert into shop."OrderNote" ("orderId", "body", "writtenAt")
select o."id", repeat(format('Leave order %s at the door. ', o."id"), 10), o."placedAt" + interval '1 hour' from shop."Order" o;

insert into shop."PointBalance" ("userId", "points") select u."id", 100 from shop."User" u;

insert into shop."PageView" ("userId", "path", "referrer", "viewedAt")
select case when n % 3 > 0 then u."id" end, format('/items/%s', n), case when n % 2 = 0 then 'https://search.example' end,
       (now() at time zone 'Asia/Tokyo') - n * interval '5 days'
  from shop."User" u cross join generate_series(0, 24) n;

insert into telemetry."PageView" ("deviceId", "number", "at", "detail")
select d, n, now() - n * interval '9 days', '{"screen": "till"}' from generate_series(1, 3) d, generate_series(1, 12) n;

insert into telemetry.reading (device_id, day, celsius)
select d, (now() at time zone 'UTC')::date - n, 20 - n % 9 from generate_series(1, 3) d, generate_series(0, 99) n;

insert into telemetry.login (at, detail) values (now(), 'till 1'), (null, 'till 2');
insert into public.data_deletion_requests values (1, 'old_prices', 'OPS-7');
insert into public.audit_events values (1, 'the accountants', 'all in order');
refresh materialized view shop."ViewsByReferrer";
refresh materialized view telemetry.coldest;
