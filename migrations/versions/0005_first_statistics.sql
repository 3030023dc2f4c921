-- The whole history, once, in a transaction that locks nothing of the application's: the dashboards must find their
-- figures in the moment in which their views change over.
do $$
declare
    result record;
begin
    for result in select r.* from public.refresh_derived_statistics() r loop
        if result.outcome <> 'success' then
            raise exception '%: %', result.name, result.error
                using hint = 'Nothing of the application was changed. Mend the cause, then run lifecycle migrate again.';
        end if;
    end loop;
end $$;
