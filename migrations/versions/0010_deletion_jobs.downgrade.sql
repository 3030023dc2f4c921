drop function public.cancel_deletion_request(uuid, text);
drop function public.enqueue_deletion_jobs();
drop function public.hold_deletion_request(uuid, text, timestamptz);
drop function public.release_deletion_request(uuid);
do $$
declare
    object text;
begin
    -- All names first: what goes with another one has none afterwards.
    foreach object in array array(
        select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'lifecycle'::regnamespace and p.proname in (
                'claim_deletion_jobs', 'close_to_readers', 'fail_deletion_jobs', 'fail_erasure_batch', 'is_due', 'is_leaving', 'is_transient',
                'job_of_request', 'reason_to_hold', 'renew_erasure_lease'))
    loop
        execute format('drop function if exists %s cascade', object);
    end loop;
end $$;
drop table lifecycle.erasure_policy, lifecycle.erasure_steps, lifecycle.personal_data_columns,
    lifecycle.deletion_jobs;
