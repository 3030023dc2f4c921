-- Messages that were never sent are lost; the ledger keeps the outcomes.
create or replace function lifecycle.audit_rotation(table_name text, action text, partition_name text, row_count bigint,
                                                    bytes bigint, outcome text, error text, started timestamptz)
returns void
language sql set search_path = ''
as $$
    insert into public.audit_events (entity_type, entity_id, event_type, payload)
    values ('job', 'rotate_event_partitions', 'job_' || outcome,
            pg_catalog.jsonb_build_object(
                'table', table_name, 'action', action, 'partition', partition_name, 'rows', row_count, 'bytes', bytes,
                'duration_ms', pg_catalog.round(extract(epoch from pg_catalog.clock_timestamp() - started) * 1000),
                'error', error))
$$;
drop function lifecycle.record_outcome(text, text, text, jsonb, boolean);
drop function lifecycle.report_outcome(text, text, text, text);
drop function lifecycle.link_run(text, text, timestamptz);
drop function lifecycle.describe_problems(text);
drop function lifecycle.first_line(text);
drop table lifecycle.notifications, lifecycle.open_problems;
