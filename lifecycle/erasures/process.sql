-- Doing it: one step of a batch, and everything that waits.

-- One step of a batch, with its errors: they fail the jobs, which are tried again later, and never the caller.
-- 'again' asks for the same step once more, 'failed' ends the batch.
create or replace function lifecycle.erasure_step(batch uuid, step text, relation regclass default null, outside jsonb default null)
returns text
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    context text;
    place text;
    violated text;
    error text;
    code  text;
    seen  boolean;
begin
    case step
        when 'collect' then
            perform lifecycle.collect_erasure_keys(batch);
        when 'erase' then
            if (select c.remaining from lifecycle.erase_chunk(batch) c) > 0 then
                return 'again';
            end if;
        when 'sign_in_users' then
            perform lifecycle.erase_sign_in_users(batch);
        when 'refresh' then
            if not lifecycle.refresh_after_erasure(batch) then
                return 'again';
            end if;
        when 'search' then
            -- Words were taken out of rows since, and what those held is noted for kept views: these see it first.
            if relation::text = 'lifecycle.changed_rows' then
                execute 'select lifecycle.refresh_kept_after_erasure()' into strict seen;
                if not seen then
                    raise lock_not_available;
                end if;
            end if;
            perform lifecycle.renew_erasure_lease(batch);
            begin
                if lifecycle.search_relation(batch, relation) > 0
                   and ((select c.relkind from pg_class c where c.oid = relation) = 'm' or lifecycle.is_kept_table(relation)) then
                    -- It holds what was taken out of its tables since.
                    if not lifecycle.refresh_erased_view(relation) then
                        raise lock_not_available;
                    end if;
                    perform lifecycle.search_relation(batch, relation);
                end if;
            exception when others then
                if lifecycle.is_transient(sqlstate) then
                    raise;
                end if;
                get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context,
                    place = table_name, violated = constraint_name;
                perform lifecycle.note_unread(batch, relation, code, lifecycle.told_error(code, error, context, place, violated));
            end;
        when 'conclude' then
            perform lifecycle.conclude_erasure(batch, coalesce(outside, '{"compressed": "not unpacked: the database cannot"}'));
    end case;
    return 'done';
exception when others then
    get stacked diagnostics code = returned_sqlstate, error = message_text, context = pg_exception_context,
        place = table_name, violated = constraint_name;
    perform lifecycle.fail_erasure_batch(batch, lifecycle.told_error(code, error, context, place, violated), code);
    return 'failed';
end $$;

-- Everything that waits, batch by batch, each step in a transaction of its own. For psql and pg_cron, which let a
-- procedure commit; it cannot run inside a transaction block. One with a search_path of its own could not commit.
create or replace procedure public.process_deletion_jobs(batch_size int default null)
language plpgsql
as $$
declare
    batch    uuid;
    step     text;
    outcome  text;
    tries    int;
    relation regclass;
begin
    perform from public.enqueue_deletion_jobs();
    commit;
    loop
        batch := lifecycle.claim_deletion_jobs(batch_size);
        commit;
        exit when batch is null;
        foreach step in array array['collect', 'erase', 'sign_in_users', 'refresh', 'search', 'conclude'] loop
            tries := 0;
            if step = 'search' then
                for relation in select s.relation from lifecycle.relations_to_search() s order by s.place loop
                    outcome := lifecycle.erasure_step(batch, step, relation);
                    commit;
                    exit when outcome = 'failed';
                end loop;
            else
                loop
                    outcome := lifecycle.erasure_step(batch, step);
                    commit;
                    exit when outcome <> 'again';
                    if step = 'refresh' then  -- somebody else refreshes
                        tries := tries + 1;
                        if tries > 120 then
                            perform lifecycle.fail_erasure_batch(batch, 'another session kept refreshing a materialized view', '55P03');
                            outcome := 'failed';
                            commit;
                            exit;
                        end if;
                        perform pg_catalog.pg_sleep(1);
                        commit;
                    end if;
                end loop;
            end if;
            exit when outcome = 'failed';
        end loop;
    end loop;
end $$;
