-- Receipts and the queue go with it; take a copy of lifecycle.erasure_receipts first. What was erased stays erased.
drop function public.find_returned_personal_data();
drop procedure public.process_deletion_jobs(int);
do $$
begin
    execute replace(pg_get_functiondef('lifecycle.roll_up_changes(timestamptz, timestamptz)'::regprocedure),
                    'unnest(lifecycle.few_spans(spans))', 'unnest(spans)');
end $$;
do $$
declare
    object text;
begin
    -- All names first: what goes with another one has none afterwards.
    foreach object in array array(
        select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'lifecycle'::regnamespace and p.proname in (
                'broken_receipts', 'conclude_erasure', 'erase_sign_in_users', 'erasure_step', 'few_spans',
                'keyed_hash', 'needles_of', 'plan_erasure', 'receipt_body', 'receipt_hash',
                'refresh_after_erasure', 'search_relation', 'search_rows', 'searched_columns',
                'searched_expression', 'treatment_of', 'unmapped_columns'))
    loop
        execute format('drop function if exists %s cascade', object);
    end loop;
end $$;
drop table lifecycle.erasure_needles, lifecycle.erasure_scans, lifecycle.erasure_findings,
    lifecycle.erasure_receipts, lifecycle.erasure_secret, lifecycle.suppressions;
