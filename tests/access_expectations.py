"""Who may do what, by hand: one letter each for SELECT, INSERT, INSERT in Ben's name, UPDATE, DELETE, TRUNCATE.

`.` denied; `x` against a policy; `0` no row; `o` own rows; `a` every row; `y` done; `!` of this kind impossible.
The callers are those of tests/access_world.py.
"""

from collections.abc import Callable, Mapping
from typing import Final

Expected = Callable[[str, bool], str]

EVENTS: Final = ("user_behavior_events", "business_metrics_events", "session_replay_events")


def _expected(service: str = "ayyaay", **letters: str) -> Expected:
    """`signed_in` is for a person and a vendor's member. Projects without automatic grants never granted TRUNCATE."""

    def expected(who: str, auto_grant: bool) -> str:
        if who == "service":
            return service if auto_grant else service[:5] + service[5].replace("y", ".")
        return letters.get(who) or letters.get("signed_in" if who in ("person", "member") else "", "......")

    return expected


def _alike(letters: str) -> Expected:
    """The same for everybody who comes through the API."""
    return _expected(anon=letters, nobody=letters, signed_in=letters)


def _own(signed_in: str) -> Expected:
    """By the application's policies: rows of one's own, of which those without a sign-in have none."""
    return _expected(anon="0xx00.", nobody="0xx00.", signed_in=signed_in)


TRACKING = _expected(anon=".yx...", nobody="0yx...", signed_in="oyx...")
VENDOR = _expected(anon="0.....", nobody="0.....", person="0.....", member="o.....")
STATISTIC = _expected(service="a!!!!!", ops="a.....")

RELATIONS: Final[Mapping[str, Expected]] = {
    **dict.fromkeys(("user_behavior_events", "business_metrics_events", "search_queries"), TRACKING),
    **dict.fromkeys(("consent_history", "data_deletion_requests"), TRACKING),
    "session_replay_events": _alike(".yy..."),
    "account_linkages": _expected(anon="0.....", nobody="0.....", signed_in="o....."),
    **dict.fromkeys(("vendors", "vendor_members", "voucher_redemptions"), VENDOR),
    "audit_events": _expected(anon="0.....", nobody="0.....", signed_in="0.....", ops="a....."),
    "accounts": _own("oxx00."),
    **dict.fromkeys(("account_metadata", "account_profiles"), _own("oxxo0.")),
    **dict.fromkeys(("chat_sessions", "chat_session_summaries", "quiz_sessions"), _own("oyxo0.")),
    **dict.fromkeys(("chat_messages", "quiz_answers", "quiz_results", "recommendation_runs"), _own("oyx00.")),
    "form_submissions": _own("oyx00."),
    "activity_interactions": _own("oyxoo."),
    "generated_activity_saves": _own("oyx0o."),
    **dict.fromkeys(("generated_activities", "recommendation_items", "vouchers"), _own("oxx00.")),
    **dict.fromkeys(("activities", "activity_assets", "activity_categories", "activity_tags"), _alike("axx00.")),
    **dict.fromkeys(("articles", "article_translations"), _alike("oxx00.")),
    "article_versions": _alike("0xx00."),
    **dict.fromkeys(("activity_category_map", "activity_tag_map", "activity_vendor_map"), _alike("a.....")),
    **dict.fromkeys(("quiz_forms", "reviews"), _alike("a.....")),
    "chat_messages_archive": _expected(service="a.....", anon="0.....", nobody="0.....", signed_in="o....."),
    "chat_messages_recent": _expected(service="a.....", anon="0.....", nobody="0.....", signed_in="o....."),
    **dict.fromkeys(
        (
            "account_function_usage",
            "chat_performance_metrics",
            "chat_usage_by_account",
            "conversation_continuation_analysis",
            "daily_active_users",
            "daily_chat_usage",
            "daily_search_stats",
            "daily_user_behavior_summary",
            "data_quality_metrics",
            "feature_usage_summary",
            "function_usage_stats",
            "hourly_usage_patterns",
            "long_running_sessions",
            "quiz_analytics",
            "quiz_completion_rates",
            "recommendation_analytics",
            "search_analytics",
            "session_details",
            "session_gap_analysis",
            "session_quality_scores",
            "top_search_keywords",
            "travel_type_distribution",
            "user_content_journey",
            "user_conversation_styles",
            "user_engagement_scores",
            "user_retention",
            "weekly_cohort_analysis",
            "weekly_monthly_active_users",
        ),
        STATISTIC,
    ),
}

EVERYBODY: Final = frozenset({"anon", "nobody", "person", "member", "ops"})
SIGNED_IN: Final = frozenset({"nobody", "person", "member"})
NOBODY: Final[frozenset[str]] = frozenset()
ROUTINES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("public.auth_account_id", "public.is_service_role", "public.touch_updated_at"), EVERYBODY),
    "public.handle_consent_withdrawal": EVERYBODY,
    **dict.fromkeys(("public.detect_data_quality_alerts", "public.is_ops_role"), frozenset({"ops"})),
    **dict.fromkeys(
        ("public.figures_as_of", "public.get_metric_trend", "public.get_retention_rates"), frozenset({"ops"})
    ),
    **dict.fromkeys(
        ("public.recommend_activities", "public.archived_chat_messages", "public.search_chat_titles"), SIGNED_IN
    ),
    **dict.fromkeys(
        (
            "public.apply_consents",
            "public.cancel_deletion_request",
            "public.cleanup_old_tracking_events",
            "public.delete_expired_vouchers",
            "public.enqueue_deletion_jobs",
            "public.find_returned_personal_data",
            "public.get_account_activity_summary",
            "public.hold_deletion_request",
            "public.process_deletion_jobs",
            "public.reconcile_statistics",
            "public.refresh_account_segments",
            "public.refresh_analytics_hourly",
            "public.refresh_chat_analytics",
            "public.refresh_content_analytics",
            "public.refresh_derived_statistics",
            "public.release_deletion_request",
            "public.rotate_event_partitions",
            "public.run_daily_maintenance",
            # Policies ask these in the caller's name; without USAGE on their schema nobody can name them.
            "private.claims",
            "private.is_guest_account",
            "private.is_new_request",
            "private.my_account_id",
            "private.my_user_id",
            "private.my_vendor_ids",
            "private.my_vendor_member_ids",
        ),
        NOBODY,
    ),
}
SERVICE_ROUTINES: Final = frozenset(
    {
        "public.archived_chat_messages",
        "public.auth_account_id",
        "public.cleanup_old_tracking_events",
        "public.detect_data_quality_alerts",
        "public.figures_as_of",
        "public.get_account_activity_summary",
        "public.get_metric_trend",
        "public.get_retention_rates",
        "public.handle_consent_withdrawal",
        "public.is_service_role",
        "public.recommend_activities",
        "public.refresh_chat_analytics",
        "public.refresh_content_analytics",
        "public.run_daily_maintenance",
        "public.search_chat_titles",
        "public.touch_updated_at",
    }
)
