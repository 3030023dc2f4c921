-- A transaction of its own: a new value cannot be used in the one that adds it.

alter type quiz_session_status add value if not exists 'started' before 'in_progress';
