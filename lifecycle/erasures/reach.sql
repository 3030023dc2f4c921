-- How far a request reaches beyond the person's own rows. Past the policy's bound it changes nothing more of anybody else's
-- until a person has looked at it.

-- Rows beyond the person's own that these jobs would touch by names that a client typed, per job and table.
create or replace function lifecycle.reach_of_names(jobs bigint[]) returns table (job_id bigint, table_name text, rows bigint)
language plpgsql stable set search_path = '' set row_security = off set plan_cache_mode = 'force_custom_plan'
as $$
#variable_conflict use_column
declare
    step     lifecycle.erasure_steps;
    keys     text[];
    relation regclass;
begin
    for step in select s.* from lifecycle.erasure_steps s join lifecycle.erasure_key_kinds k on k.kind = s.key_kind
                 where k.form = 'name' order by s.step loop
        keys := lifecycle.keys_of(jobs, step.key_kind);
        foreach relation in array lifecycle.relations_of_step(step, keys) loop
            return query execute format('select d.job_id, %L, d.count from (%s) d', step.table_name,
                                        lifecycle.erasure_statement(step, relation, true)) using keys, jobs;
        end loop;
    end loop;
end $$;

-- Of these jobs those that reach too far and that nobody has confirmed are held, with the counts, and a person is told;
-- how many. `reach` lists job_id, table_name and rows.
create or replace function lifecycle.hold_far_reaching(reach jsonb) returns int
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    far  record;
    held int := 0;
begin
    for far in
        select j.id, j.request_id, format('it reaches beyond the person''s own rows (%s), and may touch %s unasked; see '
                   '`lifecycle erasure plan`, then release it with --confirm or cancel it', r.counts, p.reach) as reason
          from (select t.job_id, sum(t.rows) as rows, string_agg(format('%s: %s', t.table_name, t.rows), ', ' order by t.rows desc, t.table_name) as counts
                  from (select d.job_id, d.table_name, sum(d.rows) as rows
                          from jsonb_to_recordset(reach) d(job_id bigint, table_name text, rows bigint) group by 1, 2) t
                 group by 1) r
          join lifecycle.deletion_jobs j on j.id = r.job_id and j.state in ('running', 'erased') and not j.reach_confirmed
         cross join lifecycle.erasure_policy p
         where r.rows > p.reach
    loop
        update lifecycle.deletion_jobs j
           set state = 'held', hold_reason = far.reason, hold_until = null, held_by_rule = false, held_by_reach = true,
               batch_id = null, lease_until = null
         where j.id = far.id;
        perform lifecycle.record_outcome('erase_personal_data', 'request ' || far.request_id, far.reason);
        held := held + 1;
    end loop;
    return held;
end $$;

-- Rows of others in one column from which words of a batch's people are about to be taken, beside those from which they
-- were taken before, as hold_far_reaching() takes them.
create or replace function lifecycle.reach_in_texts(batch uuid, table_name text, column_name text) returns jsonb
language sql stable set search_path = ''
as $$
    select jsonb_agg(jsonb_build_object('job_id', r.job_id, 'table_name', r.table_name, 'rows', r.rows))
      from (select f.job_id, f.table_name, f.rows from lifecycle.erasure_findings f
             where f.batch_id = batch and f.table_name = reach_in_texts.table_name
               and f.column_name = reach_in_texts.column_name and f.treatment = 'redacted'
             union all
            select c.job_id, c.table_name, c.rows from lifecycle.erasure_counts c
              join lifecycle.deletion_jobs j on j.id = c.job_id and j.batch_id = batch
             where c.action = 'redact') r
$$;
