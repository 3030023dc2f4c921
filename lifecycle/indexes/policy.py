"""Indexes that this project keeps on the application's tables: which, and why. Building them: lifecycle/indexes.py.

None of them is unique, so none refuses a row. `docs/reference/retention.md` lists them.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class HotQuery:
    """A statement of the application that an index is for.

    `text` stands for it when the planner is asked: `{table}` is the table, values are made up, so that no plan tells
    of a person. The planner takes an unknown value for an average one.
    """

    purpose: str
    text: str


@dataclass(frozen=True)
class Index:
    """An index on a plain table. `keys` and `predicate` are SQL; `{extension}` in `keys` is the extension's schema."""

    name: str
    table: str
    keys: str
    reason: str
    method: str = "btree"
    predicate: str | None = None
    extension: str | None = None
    query: HotQuery | None = None
    schema: str = "public"

    @property
    def qualified_table(self) -> str:
        return f"{self.schema}.{self.table}"


SUPPORTING_INDEXES: Final = (
    Index(
        "chat_messages_created_at_idx",
        "chat_messages",
        "created_at",
        "the roll-ups read the last hours, not the whole table",
    ),
    Index(
        "chat_sessions_started_at_idx",
        "chat_sessions",
        "started_at",
        "sessions of the last day; started_at never changes, so updates of a session stay as cheap as before",
    ),
    Index(
        "generated_activities_chat_session_id_idx",
        "generated_activities",
        "chat_session_id",
        "each deleted chat session looks for what was made in it",
    ),
    Index(
        "generated_activity_saves_account_id_idx",
        "generated_activity_saves",
        "account_id",
        "a person's saves, to erase them",
    ),
    Index(
        "form_submissions_account_id_idx",
        "form_submissions",
        "account_id",
        "a person's bookings, to erase the person from them",
    ),
    Index(
        "search_queries_session_id_idx",
        "search_queries",
        "session_id",
        "anonymous searches of a visit that was the person's alone",
    ),
)

HOT_QUERY_INDEXES: Final = (
    Index(
        "activity_interactions_account_type_created_idx",
        "activity_interactions",
        "account_id, interaction_type, created_at desc",
        "one kind of interaction of one account, newest first, without reading the other kinds",
        query=HotQuery(
            "history of an account, and whether it did this already",
            "select activity_id, created_at from {table} where account_id = '00000000-0000-4000-8000-000000000000'"
            " and interaction_type = 'view' order by created_at desc limit 50",
        ),
    ),
    Index(
        "search_queries_clicked_idx",
        "search_queries",
        "clicked_result_id",
        "clicks of one result; most searches end without a click and are left out",
        predicate="clicked_result_id is not null",
        query=HotQuery(
            "clicks of a search result",
            "select count(*) from {table} where clicked_result_id = '00000000-0000-4000-8000-000000000000'",
        ),
    ),
    Index(
        "search_queries_query_pattern_idx",
        "search_queries",
        "search_query text_pattern_ops",
        "searches that begin with some letters; an ordinary index serves LIKE in the collation C only",
        query=HotQuery(
            "suggestions while somebody types",
            "select search_query, count(*) from {table} where search_query like 'kanazawa te%'"
            " group by search_query order by count(*) desc limit 10",
        ),
    ),
    Index(
        "chat_sessions_title_trgm_idx",
        "chat_sessions",
        "title {extension}.gin_trgm_ops",
        "titles that contain a text of three characters or more",
        method="gin",
        extension="pg_trgm",
        query=HotQuery(
            "search in the titles of chats",
            "select id, title, started_at from {table} where title ilike '%kanazawa temple%'",
        ),
    ),
    Index(
        "chat_sessions_title_characters_idx",
        "chat_sessions",
        "string_to_array(lower(title), null)",
        "titles that contain one or two characters, such as 京都, in which no trigram is",
        method="gin",
        query=HotQuery(
            "search_chat_titles() with a short word",
            "select id, title, started_at from {table} where title ilike '%寺院%'"
            " and string_to_array(lower(title), null) @> '{{寺,院}}'",
        ),
    ),
    Index(
        "voucher_redemptions_vendor_member_idx",
        "voucher_redemptions",
        "vendor_member_id, scanned_at desc",
        "a vendor's redemptions, as row-level security finds them: by the members of the vendor",
        query=HotQuery(
            "redemptions of a vendor",
            "select id, voucher_id, scanned_at from {table} where vendor_member_id = any"
            " ('{{00000000-0000-4000-8000-000000000000,00000000-0000-4000-8000-000000000001}}'::uuid[])"
            " and scanned_at >= now() - interval '30 days' order by scanned_at desc limit 50",
        ),
    ),
)

INDEXES: Final = (*SUPPORTING_INDEXES, *HOT_QUERY_INDEXES)

# Below so many rows reading the whole table is right, whatever indexes there are.
REPRESENTATIVE_ROWS: Final = 10_000
# A report that runs once a month would be missed by anything shorter.
UNUSED_AFTER_DAYS: Final = 35
