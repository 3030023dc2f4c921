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


TRACKING = _expected(anon=".yx...", nobody="0yx...", signed_in="oyx...")
VENDOR = _expected(anon="0.....", nobody="0.....", person="0.....", member="o.....")
OWN = _expected(anon="0xx00.", nobody="0xx00.", signed_in="oyxoo.")
OPEN = _expected(anon="ayyaa.", nobody="ayyaa.", signed_in="ayyaa.")
STATISTIC = _expected(service="a!!!!!", ops="a.....")

RELATIONS: Final[Mapping[str, Expected]] = {
    **dict.fromkeys(("user_behavior_events", "business_metrics_events", "search_queries"), TRACKING),
    **dict.fromkeys(("consent_history", "data_deletion_requests"), TRACKING),
    "session_replay_events": _expected(anon=".yy...", nobody=".yy...", signed_in=".yy..."),
    "account_linkages": _expected(nobody="0.....", signed_in="o....."),
    **dict.fromkeys(("vendors", "vendor_members", "voucher_redemptions"), VENDOR),
    "audit_events": _expected(anon="0.....", nobody="0.....", signed_in="0.....", ops="a....."),
    **dict.fromkeys(("accounts", "account_profiles", "chat_sessions", "chat_messages"), OWN),
    **dict.fromkeys(("quiz_sessions", "quiz_answers", "quiz_results", "form_submissions"), OWN),
    "quiz_forms": _expected(anon="oxx00.", nobody="oxx00.", signed_in="oxx00."),
    "vouchers": _expected(anon="0xx00.", nobody="0xx00.", signed_in="oxx00."),
    "chat_messages_archive": _expected(service="a.....", anon="0.....", nobody="0.....", signed_in="o....."),
    "chat_messages_recent": _expected(service="a.....", anon="0.....", nobody="0.....", signed_in="o....."),
    **dict.fromkeys(("activities", "activity_tags", "activity_tag_map"), OPEN),
    **dict.fromkeys(("account_metadata", "activity_interactions", "generated_activities"), OPEN),
    **dict.fromkeys(("generated_activity_saves", "recommendation_runs", "recommendation_items"), OPEN),
    "legacy_activity_likes": _expected("ayyaa!", anon="ayyaa.", nobody="ayyaa.", signed_in="ayyaa."),
    **dict.fromkeys(
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
        STATISTIC,
    ),
}

EVERYBODY: Final = frozenset({"anon", "nobody", "person", "member", "ops"})
SIGNED_IN: Final = frozenset({"nobody", "person", "member"})
NOBODY: Final[frozenset[str]] = frozenset()
ROUTINES: Final[Mapping[str, frozenset[str]]] = {
    **dict.fromkeys(("public.auth_account_id", "public.is_service_role", "public.touch_updated_at"), EVERYBODY),
    **dict.fromkeys(("public.detect_data_quality_alerts", "public.is_ops_role"), frozenset({"ops"})),
    **dict.fromkeys(
        ("public.recommend_activities", "public.archived_chat_messages", "public.search_chat_titles"), SIGNED_IN
    ),
    **dict.fromkeys(
        (
            "public.cancel_deletion_request",
            "public.delete_expired_vouchers",
            "public.enqueue_deletion_jobs",
            "public.find_returned_personal_data",
            "public.hold_deletion_request",
            "public.process_deletion_jobs",
            "public.refresh_account_segments",
            "public.refresh_analytics_hourly",
            "public.refresh_derived_statistics",
            "public.release_deletion_request",
            "public.rotate_event_partitions",
            "public.run_daily_maintenance",
            # Policies ask these in the caller's name; without USAGE on their schema nobody can name them.
            "private.claims",
            "private.is_guest_account",
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
        "public.detect_data_quality_alerts",
        "public.is_service_role",
        "public.recommend_activities",
        "public.run_daily_maintenance",
        "public.search_chat_titles",
        "public.touch_updated_at",
    }
)
# What a project grants by itself; called so, each is refused in schema lifecycle.
SERVICE_ROUTINES_BY_DEFAULT: Final = frozenset(
    {
        "public.delete_expired_vouchers",
        "public.refresh_account_segments",
        "public.refresh_analytics_hourly",
        "public.refresh_derived_statistics",
        "public.rotate_event_partitions",
    }
)
