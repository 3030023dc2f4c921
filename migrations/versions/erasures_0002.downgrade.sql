alter table lifecycle.erasure_needles drop column session_start;
