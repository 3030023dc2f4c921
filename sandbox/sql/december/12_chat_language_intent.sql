alter table chat_messages
    add column if not exists language text,
    add column if not exists intent text;
create index if not exists chat_messages_language_idx on chat_messages (language);
create index if not exists chat_messages_intent_idx on chat_messages (intent);
