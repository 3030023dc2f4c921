-- Profiles move into accounts.profile, every result becomes a completed quiz. The three arrays of tastes do not move.

do $$
begin
    if exists (select from information_schema.tables where table_name = 'account_profiles') then
        update accounts a
           set profile = to_jsonb(p) - 'account_id'
          from account_profiles p
         where p.account_id = a.id;
    end if;
end
$$;

do $$
begin
    if exists (select from information_schema.tables where table_name = 'quiz_results') then
        insert into quiz_sessions (
            id, account_id, status, travel_type_code, travel_type_payload, result, answers,
            started_at, completed_at, updated_at, metadata
        )
        select
            r.id,
            r.account_id,
            'completed',
            r.travel_type_code,
            r.travel_type_payload,
            jsonb_strip_nulls(jsonb_build_object(
                'type', r.result_type,
                'travelTypeCode', r.travel_type_code,
                'payload', r.travel_type_payload,
                'snapshot', r.recommendation_snapshot
            )),
            coalesce((select jsonb_object_agg(a.question_ref, a.answer_value)
                        from quiz_answers a where a.session_id = r.session_id), '{}'),
            r.created_at,
            r.created_at,
            r.created_at,
            jsonb_build_object('migrated_from', 'quiz_results', 'legacy_session_id', r.session_id)
        from quiz_results r
        where not exists (select from quiz_sessions s where s.id = r.id);
    end if;
end
$$;
