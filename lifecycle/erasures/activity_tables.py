"""What a person did, on the map of personal data: visits and conversations, in the order in which the rows go."""

from typing import Final

from lifecycle.erasures.data_map import (
    ERASED,
    LOCATION,
    NULL,
    OTHERS_FREE_FORM,
    REDACTED,
    Action,
    Key,
    Step,
    Table,
    allowed,
    clean,
    constant,
    exempt,
    redacted,
)

VISIT_SCRUB: Final = {
    "account_id": NULL,
    "session_id": constant(ERASED),
    "page_url": LOCATION,
    "user_agent": NULL,
    "referrer": NULL,
    "screen_resolution": NULL,
    "viewport_size": NULL,
    "language": NULL,
    "timezone": NULL,
    "actions": constant("[]"),
    "performance": NULL,
    "engagement": allowed("timeOnPage", "scrollDepth"),
}
BUSINESS_SCRUB: Final = {
    "account_id": NULL,
    "session_id": constant(ERASED),
    "page_url": LOCATION,
    "user_journey": NULL,
    "customer_satisfaction": NULL,
    "conversion_funnel": REDACTED,
    "revenue_metrics": REDACTED,
    "content_performance": REDACTED,
}
EVENT_KEY: Final = "the event's own id; counts per day stay right without the person"
OWN_WORDS: Final = "other people's own words, which are their data; the person's conversations are deleted"

EVENT_TABLES: Final = (
    Table(
        "session_replay_events",
        "a replay shows what a visitor typed; that of a shared visit shows both people",
        (Step("session_id", Key.web_session),),
        redacted(OTHERS_FREE_FORM, "event_data"),
    ),
    Table(
        "user_behavior_events",
        "counts per day stay right without the person",
        (
            Step("account_id", Key.account, Action.scrub, VISIT_SCRUB),
            Step("session_id", Key.own_web_session, Action.scrub, VISIT_SCRUB, unowned="account_id"),
        ),
        clean(EVENT_KEY, "id")
        | redacted(OTHERS_FREE_FORM, "page_url", "referrer", "actions", "engagement", "performance"),
    ),
    Table(
        "business_metrics_events",
        "counts and revenue per day stay right without the person",
        (
            Step("account_id", Key.account, Action.scrub, BUSINESS_SCRUB),
            Step("session_id", Key.own_web_session, Action.scrub, BUSINESS_SCRUB, unowned="account_id"),
        ),
        clean(EVENT_KEY, "id", "experience_slug", "experience_title")
        | redacted(
            OTHERS_FREE_FORM,
            "page_url",
            "user_journey",
            "customer_satisfaction",
            "conversion_funnel",
            "revenue_metrics",
            "content_performance",
        ),
    ),
    Table(
        "search_queries",
        "what somebody looked for",
        (
            Step("account_id", Key.account),
            Step("session_id", Key.own_web_session, unowned="account_id"),
        ),
        redacted(OTHERS_FREE_FORM, "search_query", "search_source", "search_context", "page_url", "clicked_result_id"),
    ),
)

CONVERSATIONS: Final = (
    Table(
        "chat_messages",
        "conversations",
        (Step("session_id", Key.chat_session),),
        exempt(OWN_WORDS, "content") | redacted(OTHERS_FREE_FORM, "tool_calls"),
    ),
    Table(
        "chat_messages_archive",
        "conversations, compressed",
        (Step("session_id", Key.chat_session),),
        exempt(OWN_WORDS, "content_gzip") | redacted(OTHERS_FREE_FORM, "tool_calls"),
    ),
    Table(
        "generated_activity_saves",
        "what somebody liked",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "metadata"),
    ),
    Table(
        "generated_activities",
        "made in a conversation; one that somebody else saved stays, detached from it",
        (Step("id", Key.generated_activity),),
        redacted("saved by somebody else", "title", "summary", "body_mdx", "metadata"),
    ),
    Table(
        "chat_sessions",
        "conversations",
        (Step("account_id", Key.account),),
        exempt(OWN_WORDS, "title") | redacted(OTHERS_FREE_FORM, "state", "metadata"),
    ),
    Table(
        "quiz_answers",
        "tastes and opinions",
        (Step("session_id", Key.quiz_session),),
        redacted(OTHERS_FREE_FORM, "question_ref", "answer_value"),
    ),
    Table(
        "quiz_results",
        "tastes and opinions",
        (Step("account_id", Key.account), Step("session_id", Key.quiz_session)),
        redacted(OTHERS_FREE_FORM, "travel_type_payload", "recommendation_snapshot"),
    ),
    Table(
        "quiz_sessions",
        "tastes and opinions",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "metadata"),
    ),
    Table(
        "recommendation_items",
        "drawn from a person's tastes",
        (Step("run_id", Key.recommendation_run),),
        redacted(OTHERS_FREE_FORM, "presentation_payload"),
    ),
    Table(
        "recommendation_runs",
        "drawn from a person's tastes",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "input_payload", "model_metadata"),
    ),
    Table(
        "activity_interactions",
        "what somebody liked",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "metadata", "activity_slug", "source_id"),
    ),
)
