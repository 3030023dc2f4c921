-- Segments that were written stay in the profiles; the application owns those rows.
drop function public.recommend_activities(uuid, int);
drop function public.refresh_account_segments(int);
do $$
declare
    watcher record;
begin
    for watcher in
        select t.tgname, t.tgrelid::regclass as relation from pg_trigger t
         where t.tgrelid in (select c.oid from pg_class c where c.relnamespace = to_regnamespace('public'))
           and t.tgfoid in (select p.oid from pg_proc p where p.pronamespace = to_regnamespace('lifecycle'))
           and t.tgname like 'lifecycle\_segments\_%'
    loop
        execute format('drop trigger %I on %s', watcher.tgname, watcher.relation);
    end loop;
end $$;
drop function lifecycle.recommend_activities_uncached(uuid, int);
drop function lifecycle.refresh_segment_batch(int);
drop function lifecycle.compute_segments(uuid[]);
drop function lifecycle.may_personalize(jsonb);
drop table lifecycle.segment_policy;
drop function lifecycle.log_segment_account();
drop function lifecycle.log_segment_answer();
drop function lifecycle.log_all_segment_accounts();
drop table lifecycle.changed_segment_accounts;
