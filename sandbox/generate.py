"""Fill an application database with sample rows, the same ones for the same scale, seed and clock."""

from datetime import datetime
from typing import Final

from lifecycle.errors import SandboxError
from sandbox.filling import Source, fill
from sandbox.rows import articles, bookings, catalogue, conversations, events, people, quizzes
from sandbox.rows.copying import Progress, bulk_copy
from sandbox.rows.world import Scale, World

SCALES: Final = {
    "small": Scale(accounts=300, page_views=12_000, chat_sessions=400, searches=1_500, bookings=300),
    "medium": Scale(accounts=5_000, page_views=570_000, chat_sessions=12_000, searches=30_000, bookings=5_000),
    "large": Scale(accounts=40_000, page_views=5_700_000, chat_sessions=80_000, searches=250_000, bookings=40_000),
}


SOURCES: Final[tuple[Source[World], ...]] = (
    Source("accounts", "id status onboarding_state created_at updated_at", people.accounts),
    Source(
        "auth.users",
        "id email phone email_confirmed_at email_change raw_app_meta_data raw_user_meta_data created_at",
        people.users,
    ),
    Source("account_linkages", "account_id supabase_user_id provider_type linked_at metadata", people.linkages),
    Source("account_metadata", "account_id quiz_state last_synced_at flags", people.metadata),
    Source(
        "account_profiles",
        "account_id display_name locale timezone demographics preferences updated_at",
        people.profiles,
    ),
    Source(
        "consent_history",
        "id account_id consent_version preferences ip_address user_agent created_at",
        people.consents,
    ),
    Source(
        "data_deletion_requests",
        "id account_id request_reason status requested_at processed_at completed_at processed_by notes",
        people.deletion_requests,
    ),
    Source("activity_tags", "id slug name color is_active created_at", catalogue.tags),
    Source(
        "activities",
        "id slug title summary description status google_place_id duration_minutes price_tier metadata "
        "is_active created_at updated_at",
        catalogue.activities,
    ),
    Source("activity_tag_map", "activity_id tag_id", catalogue.tag_map),
    Source("activity_categories", "id slug name description parent_id is_active created_at", catalogue.categories),
    Source("activity_category_map", "activity_id category_id", catalogue.category_map),
    Source("activity_assets", "id activity_id asset_type url metadata is_primary created_at", catalogue.assets),
    Source("reviews", "id activity_id account_id user_id rating comment created_at updated_at", catalogue.reviews),
    Source(
        "activity_interactions",
        "id account_id activity_id activity_slug interaction_type source_type source_id score_delta metadata "
        "created_at updated_at",
        catalogue.interactions,
    ),
    Source("quiz_forms", "id version definition published created_at", quizzes.quiz_forms),
    Source(
        "quiz_sessions",
        "id account_id quiz_form_id status started_at completed_at location_permission metadata",
        quizzes.quiz_sessions,
    ),
    Source("quiz_answers", "id session_id question_ref answer_value answered_at", quizzes.quiz_answers),
    Source(
        "quiz_results",
        "id session_id account_id result_type travel_type_code travel_type_payload recommendation_snapshot created_at "
        "dietary_preferences language_comfort photo_subjects",
        quizzes.quiz_results,
    ),
    Source(
        "recommendation_runs",
        "id account_id trigger input_payload model_metadata status created_at completed_at",
        quizzes.recommendation_runs,
    ),
    Source(
        "recommendation_items",
        "id run_id activity_id place_id rank score presentation_payload presented_at clicked_at dismissed_at",
        quizzes.recommendation_items,
    ),
    Source(
        "chat_sessions",
        "id account_id session_type title state started_at last_activity_at closed_at metadata",
        conversations.session_lines,
    ),
    Source(
        "chat_messages",
        "id session_id role content tool_calls latency_ms created_at metadata sequence",
        conversations.message_lines,
    ),
    Source(
        "chat_session_summaries",
        "session_id summary title_suggestion last_message_excerpt tags updated_at",
        conversations.summary_lines,
    ),
    Source(
        "generated_activities",
        "id chat_session_id draft_slug title summary body_mdx source_place_id status metadata created_at updated_at",
        conversations.draft_lines,
    ),
    Source(
        "generated_activity_saves",
        "id generated_activity_id account_id source interaction_id metadata created_at",
        conversations.save_lines,
    ),
    Source(
        "form_submissions",
        "id activity_id experience_slug experience_title account_id email phone_number first_name last_name "
        "country nationality visit_purposes travel_issues coupon_code booking_date status scans_used "
        "qr_code_data user_agent ip_address referrer created_at updated_at",
        bookings.submission_lines,
    ),
    Source(
        "vouchers",
        "id form_submission_id voucher_code qr_token valid_from valid_until max_redemptions redemptions_used "
        "metadata created_at",
        bookings.voucher_lines,
    ),
    Source("vendors", "id name contact_email contact_phone metadata created_at", catalogue.vendors),
    Source("activity_vendor_map", "activity_id vendor_id relationship_type", catalogue.vendor_map),
    Source(
        "vendor_members",
        "id vendor_id account_id supabase_user_id role invited_at joined_at status",
        catalogue.member_lines,
    ),
    Source(
        "voucher_redemptions",
        "id voucher_id vendor_member_id scan_context scanned_at",
        bookings.redemption_lines,
    ),
    Source(
        "articles",
        "id slug language title summary body_mdx status author_account_id published_at metadata created_at updated_at",
        articles.article_lines,
    ),
    Source(
        "article_versions",
        "id article_id version_number language title summary body_mdx editor_account_id change_note created_at",
        articles.version_lines,
    ),
    Source(
        "article_translations",
        "id article_id language title summary body_mdx status translator_account_id published_at metadata "
        "created_at updated_at",
        articles.translation_lines,
    ),
    Source(
        "audit_events",
        "id entity_type entity_id event_type performed_by payload created_at",
        bookings.audit_lines,
    ),
    Source(
        "search_queries",
        "id account_id session_id search_query search_source search_context page_url results_count "
        "clicked_result_id clicked_result_position searched_at created_at",
        events.searches,
        bulk_copy,
    ),
    Source(
        "user_behavior_events",
        "id account_id session_id event_timestamp page_url user_agent screen_resolution viewport_size language "
        "timezone referrer actions performance engagement created_at",
        events.page_views,
        bulk_copy,
    ),
    Source(
        "business_metrics_events",
        "id account_id session_id event_timestamp page_url experience_slug experience_title conversion_funnel "
        "revenue_metrics user_journey content_performance customer_satisfaction created_at",
        events.business_events,
        bulk_copy,
    ),
    Source("session_replay_events", "id session_id event_type event_data timestamp", events.replays, bulk_copy),
)


def generate(
    url: str,
    scale: str,
    *,
    seed: int = 1,
    now: datetime,
    progress: Progress,
    skewed_clocks: bool = True,
) -> dict[str, int]:
    """Fill the empty application database at `url`; returns the number of rows per table.

    `scale` is a key of SCALES: small (seconds), medium (about 1M events), large (about 10M). `now` must know its
    zone; rows reach back from it. `progress(table, rows so far)` is called as tables grow. `skewed_clocks=False`
    leaves out the few events that claim to be of 1970 or of years to come. Raises SandboxError for an unknown
    scale or a database that has rows already.
    """
    if scale not in SCALES:
        raise SandboxError(f"no scale named {scale!r}; choose one of {', '.join(SCALES)}")
    return fill(url, SOURCES, World(SCALES[scale], scale, seed, now, skewed_clocks), progress)
