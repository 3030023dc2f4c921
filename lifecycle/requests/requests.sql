-- Somebody asks to be erased; the id of the request. Asking again while a request is open is that request. With its owner's
-- rights: the back end asks, and has none in this schema.
create or replace function public.request_erasure(person text, reason text default null) returns bigint
language plpgsql security definer set search_path = ''
as $$
#variable_conflict use_variable
declare
    known boolean := false;
    made  bigint;
begin
    begin
        execute lifecycle.request_statement('select exists (select from %7$s a where a.%8$I = $1::%9$s)') into known using person;
    exception when data_exception then null;  -- not even of the key's type
    end;
    if not known then
        raise exception 'nobody has this key in %', lifecycle.request_statement('%7$s (column %8$I)')
            using errcode = 'no_data_found', hint = 'Name the person''s key.';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('lifecycle.request_erasure.' || person, 0));
    select min(r.id) into made from lifecycle.deletion_requests r where r.person = person and r.status in ('pending', 'processing');
    if made is null then
        insert into lifecycle.deletion_requests (person, reason) values (person, reason) returning id into made;
    end if;
    return made;
end $$;
