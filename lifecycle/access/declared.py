"""Who may do what with which rows of schema public. Change it here, then run `lifecycle migrate`.

Schemas `lifecycle` and `event_partitions` are not declared: their owner alone may touch what is in them. Of `private`
the helpers are, which policies ask in the caller's name.
"""

from typing import Final

from lifecycle.access.model import (
    ANON,
    API_ROLES,
    AUTHENTICATED,
    INSERT,
    OPS,
    PUBLIC,
    SELECT,
    VERBS,
    Access,
    Relation,
    Routine,
    Rows,
)

EVERY_ROW: Final = Rows("every row")
# The application's own policies decide; accepted as they stand (`lifecycle access accept`).
APPLICATION: Final = Rows("by the application's policies")

MY_ACCOUNT: Final = "account_id = (select private.my_account_id())"
OWN: Final = Rows("own rows", MY_ACCOUNT)
# Nobody writes in the name of somebody who signs in. Guests have an account that nobody signs in to.
NOBODY_ELSES: Final = Rows(
    "in nobody else's name",
    f"account_id is null or {MY_ACCOUNT} or private.is_guest_account(account_id)",
)
# A request from the future would never be due, one from long ago would jump the queue and its days of grace.
PENDING: Final = Rows(
    "as pending, in nobody else's name",
    "status = 'pending' and requested_at between now() - interval '1 day' and now() + interval '1 day' "
    f"and processed_at is null and completed_at is null and processed_by is null and ({NOBODY_ELSES.condition})",
)
ANY_VISIT: Final = Rows("of any visit", "true")
OWN_LINK: Final = Rows("own sign-in", "supabase_user_id = (select private.my_user_id())")
OWN_VENDORS: Final = Rows("own vendors", "id = any (array(select private.my_vendor_ids()))")
COLLEAGUES: Final = Rows("members of own vendors", "vendor_id = any (array(select private.my_vendor_ids()))")
REDEMPTIONS: Final = Rows(
    "redemptions of own vendors", "vendor_member_id = any (array(select private.my_vendor_member_ids()))"
)
LEDGER: Final = Rows("the ledger", "(select public.is_ops_role())")


def _application(name: str, reason: str, *, narrowed: bool = False) -> Relation:
    return Relation(name, (Access(API_ROLES, VERBS, APPLICATION),), reason, row_security=True, narrowed=narrowed)


def _open(name: str, reason: str) -> Relation:
    return Relation(name, (Access(API_ROLES, VERBS, EVERY_ROW),), reason)


def _statistic(name: str) -> Relation:
    return Relation(
        name, (Access((OPS,), (SELECT,), EVERY_ROW, granted=True),), "a statistic: for ops and the back end"
    )


def _tracking(name: str) -> Relation:
    return Relation(
        name,
        (Access(API_ROLES, (INSERT,), NOBODY_ELSES), Access((AUTHENTICATED,), (SELECT,), OWN)),
        "browsers report; people may see what is known of them",
        row_security=True,
    )


def _vendor(name: str, rows: Rows) -> Relation:
    return Relation(
        name,
        (Access((AUTHENTICATED,), (SELECT,), rows, granted=True), Access(API_ROLES, (SELECT,), APPLICATION)),
        "vendors read what is theirs; only the back end writes",
        row_security=True,
        narrowed=True,
    )


RELATIONS: Final = (
    _tracking("user_behavior_events"),
    _tracking("business_metrics_events"),
    _tracking("search_queries"),
    Relation(
        "session_replay_events",
        (Access(API_ROLES, (INSERT,), ANY_VISIT),),
        "a visit's name is no proof of who came, and replays hold typed text: nobody reads them through the API",
        row_security=True,
    ),
    _tracking("consent_history"),
    Relation(
        "data_deletion_requests",
        (Access(API_ROLES, (INSERT,), PENDING), Access((AUTHENTICATED,), (SELECT,), OWN)),
        "people ask and see how it stands",
        row_security=True,
    ),
    Relation(
        "account_linkages",
        (Access((AUTHENTICATED,), (SELECT,), OWN_LINK),),
        "who signs in to which account: whoever could write it could be anybody. Nobody makes an account through the "
        "API, so the back end links them, too",
        row_security=True,
    ),
    _vendor("vendors", OWN_VENDORS),
    _vendor("vendor_members", COLLEAGUES),
    _vendor("voucher_redemptions", REDEMPTIONS),
    Relation(
        "audit_events",
        (Access((OPS,), (SELECT,), LEDGER, granted=True), Access(API_ROLES, (SELECT,), APPLICATION)),
        "ops read the ledger; only the back end writes it",
        row_security=True,
        narrowed=True,
    ),
    _application("accounts", "own row"),
    _application("account_profiles", "own row"),
    # Somebody looks for a title: beside a condition that is asked of every row, no index is of use.
    _application("chat_sessions", "own rows", narrowed=True),
    _application("chat_messages", "own conversations"),
    _application("quiz_forms", "published ones"),
    _application("quiz_sessions", "own rows"),
    _application("quiz_answers", "own quizzes"),
    _application("quiz_results", "own rows"),
    _application("form_submissions", "own rows"),
    _application("vouchers", "own bookings"),
    Relation(
        "chat_messages_archive",
        (Access(API_ROLES, (SELECT,), APPLICATION),),
        "whoever may read a message may read it in the archive",
        row_security=True,
    ),
    Relation(
        "chat_messages_recent",
        (Access(API_ROLES, (SELECT,), APPLICATION),),
        "chat_messages of the last 90 days, by the caller's rights",
        reads_as_caller=True,
    ),
    _open("activities", "the catalogue"),
    _open("activity_tags", "the catalogue"),
    _open("activity_tag_map", "the catalogue"),
    # Personal data without row-level security, as the application has it: `no_table_is_open_to_anybody` names them.
    _open("account_metadata", "as the application has it"),
    _open("activity_interactions", "as the application has it"),
    _open("legacy_activity_likes", "as the application has it: likes under an older name"),
    _open("generated_activities", "as the application has it"),
    _open("generated_activity_saves", "as the application has it"),
    _open("recommendation_runs", "as the application has it"),
    _open("recommendation_items", "as the application has it"),
    *map(
        _statistic,
        (
            "account_function_usage",
            "chat_performance_metrics",
            "chat_usage_by_account",
            "daily_active_users",
            "daily_search_stats",
            "daily_user_behavior_summary",
            "data_quality_metrics",
            "feature_usage_summary",
            "hourly_usage_patterns",
            "search_analytics",
            "session_gap_analysis",
            "session_quality_scores",
            "top_search_keywords",
            "user_conversation_styles",
            "user_engagement_scores",
            "user_retention",
            "weekly_cohort_analysis",
            "weekly_monthly_active_users",
        ),
    ),
)

EVERYBODY: Final = (PUBLIC, ANON, AUTHENTICATED, OPS)
BACK_END: Final = "for the owner and the back end: psql, Supabase's scheduler, Dagster"

APPLICATION_ROUTINES: Final = (
    Routine("auth_account_id", EVERYBODY, "the application's policies ask it"),
    Routine("is_service_role", EVERYBODY, "the application's policies ask it"),
    Routine("touch_updated_at", EVERYBODY, "a trigger of the application"),
    Routine("detect_data_quality_alerts", (OPS,), "reads a statistic", granted=(OPS,)),
)
OWN_ROUTINES: Final = (
    Routine("is_ops_role", (OPS,), "policies for ops ask it", granted=(OPS,)),
    Routine("recommend_activities", (AUTHENTICATED,), "the recommendation read, by the caller's rights"),
    Routine("search_chat_titles", (AUTHENTICATED,), "titles of chats, by the caller's rights"),
    Routine("archived_chat_messages", (AUTHENTICATED,), "past conversations, by the caller's rights"),
    *(
        Routine(name, (), BACK_END)
        for name in (
            "cancel_deletion_request",
            "delete_expired_vouchers",
            "enqueue_deletion_jobs",
            "find_returned_personal_data",
            "hold_deletion_request",
            "process_deletion_jobs",
            "refresh_account_segments",
            "refresh_analytics_hourly",
            "refresh_derived_statistics",
            "release_deletion_request",
            "rotate_event_partitions",
            "run_daily_maintenance",
        )
    ),
)
HELPERS: Final = tuple(
    Routine(name, roles, "policies ask it; nobody may name it", granted=roles, schema="private")
    for name, roles in (
        ("claims", (OPS,)),
        ("is_guest_account", API_ROLES),
        ("my_account_id", API_ROLES),
        ("my_user_id", (AUTHENTICATED,)),
        ("my_vendor_ids", (AUTHENTICATED,)),
        ("my_vendor_member_ids", (AUTHENTICATED,)),
    )
)
ROUTINES: Final = (*APPLICATION_ROUTINES, *OWN_ROUTINES, *HELPERS)
