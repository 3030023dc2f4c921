do $$
declare
    object text;
begin
    -- All names first: what goes with another one has none afterwards.
    foreach object in array array(
        select p.oid::regprocedure::text from pg_proc p
         where p.pronamespace = 'lifecycle'::regnamespace and p.proname in (
                'address_pattern', 'allowed_only', 'collect_erasure_keys', 'collect_keys', 'document_without_words',
                'erase_chunk', 'erase_jobs', 'erasure_statement', 'escaped_pattern', 'id_pattern',
                'identifier_hint', 'keys_of', 'location_only', 'redacted', 'redacted_document',
                'relations_of_step', 'replacement', 'rows_to_erase', 'session_pattern',
                'without_words', 'words_in'))
    loop
        execute format('drop function if exists %s cascade', object);
    end loop;
end $$;
drop table lifecycle.erasure_keys, lifecycle.erasure_counts;
