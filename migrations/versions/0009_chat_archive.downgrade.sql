-- Archived text cannot be read without the tool that unpacks it: while the archive holds messages, it stays.
do $$
begin
    if exists (select from public.chat_messages_archive) then
        raise exception 'public.chat_messages_archive still holds messages'
            using hint = 'Bring the sessions back first (lifecycle chat restore SESSION_ID), or move the table out of the way.';
    end if;
end $$;
drop function public.delete_expired_vouchers(int);
drop function public.archived_chat_messages(uuid);
drop view public.chat_messages_recent;
create or replace view lifecycle.chat_message_facts as
select m.id, m.session_id, m.role, m.tool_calls, m.latency_ms, m.created_at from public.chat_messages m;
create or replace trigger lifecycle_late_insert after insert on public.chat_messages for each row
    when (new.created_at < now() - interval '2 hours') execute function lifecycle.note_changed_messages();
create or replace trigger lifecycle_late_delete after delete on public.chat_messages for each row
    when (old.created_at < now() - interval '2 hours') execute function lifecycle.note_changed_messages();
drop table public.chat_messages_archive;
drop table lifecycle.restored_chat_sessions;
drop table lifecycle.retention_policies;
