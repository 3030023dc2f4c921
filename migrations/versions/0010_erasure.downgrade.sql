-- Receipts and the queue go with it; take a copy of lifecycle.erasure_receipts first. What was erased stays erased.
drop procedure public.process_deletion_jobs(int);
drop function public.find_returned_personal_data();
drop function public.enqueue_deletion_jobs();
drop function public.hold_deletion_request(uuid, text, timestamptz);
drop function public.release_deletion_request(uuid);
drop function public.cancel_deletion_request(uuid, text);
do $$
declare
    object text;
begin
    for object in
        select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'lifecycle'::regnamespace and p.proname in (
                'allowed_only', 'broken_receipts', 'claim_deletion_jobs', 'collect_erasure_keys',
                    'conclude_erasure', 'erase_chunk', 'erase_jobs', 'erase_sign_in_users',
                    'erasure_statement', 'erasure_step', 'fail_deletion_jobs', 'fail_erasure_batch',
                    'is_leaving', 'is_transient', 'job_of_request', 'keyed_hash', 'keys_of',
                    'location_only', 'plan_erasure', 'reason_to_hold', 'receipt_body',
                    'receipt_hash', 'redacted', 'redacted_words', 'refresh_after_erasure',
                    'relations_of_step', 'renew_erasure_lease', 'replacement', 'rows_to_erase',
                    'search_condition', 'search_relation', 'search_words', 'searched_columns',
                    'searched_expression', 'session_pattern', 'treatment_of', 'unmapped_columns')
    loop
        execute format('drop function %s cascade', object);
    end loop;
end $$;
drop table lifecycle.suppressions, lifecycle.erasure_secret, lifecycle.erasure_receipts, lifecycle.erasure_findings,
    lifecycle.erasure_scans, lifecycle.erasure_counts, lifecycle.erasure_keys, lifecycle.deletion_jobs,
    lifecycle.personal_data_columns, lifecycle.erasure_steps, lifecycle.erasure_policy;
