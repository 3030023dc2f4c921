alter table lifecycle.erasure_needles add column session_start text;
comment on column lifecycle.erasure_needles.session_start is 'What all session names that are looked for in texts begin with, in small letters: a text without it holds none. Null where that is too short to tell.';
