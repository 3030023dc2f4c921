-- Receipts and the queue go with it; take a copy of lifecycle.erasure_receipts first. What was erased stays erased.
drop procedure public.process_deletion_jobs(int);
drop function public.find_returned_personal_data();
drop function public.enqueue_deletion_jobs();
drop function public.hold_deletion_request(uuid, text, timestamptz);
drop function public.release_deletion_request(uuid);
drop function public.cancel_deletion_request(uuid, text);
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
                'address_pattern', 'allowed_only', 'broken_receipts', 'claim_deletion_jobs', 'collect_erasure_keys',
                'collect_keys', 'conclude_erasure', 'document_without_words', 'erase_chunk',
                'erase_jobs', 'erase_sign_in_users', 'erasure_statement', 'erasure_step',
                'escaped_pattern', 'fail_deletion_jobs', 'fail_erasure_batch', 'few_spans',
                'id_pattern', 'identifier_hint', 'is_leaving', 'is_transient', 'job_of_request',
                'keyed_hash', 'keys_of', 'location_only', 'needles_of', 'plan_erasure',
                'reason_to_hold', 'receipt_body', 'receipt_hash', 'redacted', 'redacted_document',
                'refresh_after_erasure', 'relations_of_step', 'renew_erasure_lease', 'replacement',
                'rows_to_erase', 'search_relation', 'search_rows', 'searched_columns',
                'searched_expression', 'session_pattern', 'treatment_of', 'unmapped_columns',
                'without_words', 'words_in'))
    loop
        execute format('drop function if exists %s cascade', object);
    end loop;
end $$;
drop table lifecycle.suppressions, lifecycle.erasure_secret, lifecycle.erasure_receipts, lifecycle.erasure_findings,
    lifecycle.erasure_needles,    lifecycle.erasure_scans, lifecycle.erasure_counts, lifecycle.erasure_keys, lifecycle.deletion_jobs,
    lifecycle.personal_data_columns, lifecycle.erasure_steps, lifecycle.erasure_policy;
