-- The latest answer about location that a quiz holds becomes a preference, unless there is one.

with latest as (
    select distinct on (s.account_id)
        s.account_id,
        case when s.metadata ->> 'locationPermission' in ('true', 'false')
             then (s.metadata ->> 'locationPermission')::boolean end as allowed
    from quiz_sessions s
    where s.metadata ? 'locationPermission'
    order by s.account_id, s.updated_at desc nulls last, s.started_at desc
)
update accounts a
   set profile = jsonb_set(coalesce(a.profile, '{}'), '{preferences,locationPermissionGranted}', to_jsonb(l.allowed)),
       updated_at = now()
  from latest l
 where l.account_id = a.id and l.allowed is not null
   and a.profile -> 'preferences' -> 'locationPermissionGranted' is null;
