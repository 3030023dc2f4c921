-- The indexes stay until revision 0003 goes, which drops those that carry our comment; pg_trgm stays altogether, since
-- others may use it by now.
drop function public.search_chat_titles(text, int);
drop table lifecycle.index_plans;
