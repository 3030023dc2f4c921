-- Consent in cold months: which decisions the files have to be looked through for. A worker does it (lifecycle/consent/cold_rows.py):
-- the database cannot read a file. What it takes out waits in a table that purposes name beside the event table.

-- Declared tables of which rows stand in files.
create or replace function lifecycle.consent_tables_in_files() returns setof lifecycle.consent_tables
language plpgsql stable set search_path = ''
as $$
begin
    if to_regclass('lifecycle.cold_files') is not null then
        return query execute 'select t.* from lifecycle.consent_tables t
            where exists (select from lifecycle.cold_files f
                           where f.state = ''live'' and format(''%I.%I'', f.schema_name, f.table_name) = t.table_name)
            order by t.purpose, t.position';
    end if;
end $$;

-- Who ever refused, since when, and whether they consent now, of those for whose latest decision no file was looked through.
-- Decisions younger than `slack` do not count yet.
create or replace function lifecycle.refusals_not_in_files(wanted lifecycle.consent_purposes, slack interval default '0')
returns table (person text, since timestamptz, given boolean)
language plpgsql stable set search_path = '' set row_security = off
as $$
declare
    kind text;
begin
    select lifecycle.type_of_column(lifecycle.reachable(r.table_name), r.person_column) into kind from lifecycle.consent_record r;
    return query execute lifecycle.consent_statement(
        'select r.person, r.since, l.given from (' || lifecycle.refusals(null) || ') r
          cross join lateral (select (%5$s) as given, record.%4$I as decided_at from %1$s record
                               where record.%3$I = r.person::' || kind || ' and (%5$s) is not null
                               order by record.%4$I desc, record.%2$I desc limit 1) l
           left join lifecycle.consent_decisions d on d.purpose = $1 and d.subject = lifecycle.keyed_hash(r.person)
          where (d.given is distinct from l.given or d.looked_in_files_at is null)
            and ($2 <= interval ''0'' or l.decided_at < now() - $2)', wanted)
      using wanted.purpose, slack;
end $$;

-- Files were looked through for these people, as they had decided by then. Not noted when files came meanwhile, or when the
-- decision is another one by now: it is done again. Returns how many decisions were noted.
create or replace function lifecycle.note_refusals_in_files(purpose text, people text[], given boolean[], searched bigint[])
returns bigint
language plpgsql set search_path = ''
as $$
#variable_conflict use_variable
declare
    noted bigint;
begin
    if exists (select from lifecycle.cold_files f
                 join lifecycle.consent_tables t on t.table_name = format('%I.%I', f.schema_name, f.table_name)
                where t.purpose = purpose and f.state = 'live' and f.id <> all (searched)) then
        return 0;
    end if;
    update lifecycle.consent_decisions d set looked_in_files_at = now()
      from (select lifecycle.keyed_hash(u.person) as subject, u.given from unnest(people, given) u(person, given)) k
     where d.purpose = purpose and d.subject = k.subject and d.given = k.given;
    get diagnostics noted = row_count;
    return noted;
end $$;

-- People whose withdrawal was not carried into the files of a table yet, by purpose: rows there may stand against consent, and
-- nobody has looked. Expected: none, but for the last moments.
create or replace function lifecycle.consents_not_in_files(slack interval default '0')
returns table (purpose text, table_name text, people bigint)
language sql stable set search_path = ''
as $$
    select p.purpose, t.table_name, n.people
      from lifecycle.consent_purposes p
      join lifecycle.consent_tables_in_files() t on t.purpose = p.purpose
     cross join lateral (select count(*) as people from lifecycle.refusals_not_in_files(p, slack)) n
     where n.people > 0 order by p.position, t.position
$$;
