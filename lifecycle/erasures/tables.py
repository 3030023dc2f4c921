"""The application's tables on the map of personal data, in the order in which a person's rows leave them."""

from collections.abc import Mapping
from typing import Final

from lifecycle.erasures.data_map import LOCATION, NULL, REDACTED, Action, Key, Step, Table, Treatment, allowed, constant

# Not a hash: a hash of the session would still tie a person's events together.
ERASED: Final = "erased"
# What a row of the ledger may still say once the person is gone.
AUDIT_KEYS: Final = ("status", "action", "reason_code", "rows", "duration_ms", "run_id", "object", "amount", "version")

Columns = Mapping[str, tuple[Treatment, str]]


def clean(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Columns that hold nothing of a person, so that a find in them is a fault."""
    return dict.fromkeys(columns, (Treatment.clean, reason))


def redacted(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Free form of others' rows, from which the person's ids and addresses are taken out."""
    return dict.fromkeys(columns, (Treatment.redacted, reason))


def exempt(reason: str, *columns: str) -> dict[str, tuple[Treatment, str]]:
    """Columns that may name the person after the erasure, for this reason."""
    return dict.fromkeys(columns, (Treatment.exempt, reason))


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
AUDIT_SCRUB: Final = {"payload": allowed(*AUDIT_KEYS)}

# Residues in them must not fail a job: whoever wrote somebody's address into their own form could hold up that
# person's erasure for ever.
OTHERS_FREE_FORM: Final = "free form of others' rows, in which somebody's address may have been written down"
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

BOOKKEEPING: Final = "kept for 36 months as a business record, without the person"

BOOKINGS: Final = (
    Table(
        "voucher_redemptions",
        BOOKKEEPING,
        (Step("voucher_id", Key.voucher, Action.scrub, {"scan_context": constant("{}")}),),
        clean(BOOKKEEPING, "id", "voucher_id", "vendor_member_id") | redacted(OTHERS_FREE_FORM, "scan_context"),
    ),
    Table(
        "vouchers",
        BOOKKEEPING,
        (Step("id", Key.voucher, Action.scrub, {"metadata": constant("{}"), "qr_token": NULL}),),
        clean(BOOKKEEPING, "id", "form_submission_id", "voucher_code") | redacted(OTHERS_FREE_FORM, "metadata"),
    ),
    Table(
        "form_submissions",
        BOOKKEEPING,
        (
            Step(
                "id",
                Key.form_submission,
                Action.scrub,
                {
                    "account_id": NULL,
                    "email": constant(ERASED),
                    "phone_number": NULL,
                    "first_name": NULL,
                    "last_name": NULL,
                    "travel_issues": NULL,
                    "qr_code_data": NULL,
                    "user_agent": NULL,
                    "ip_address": NULL,
                    "referrer": NULL,
                },
            ),
        ),
        clean(BOOKKEEPING, "id", "activity_id")
        | exempt("an address that somebody who stays uses, too, ties no row to the person", "email")
        | redacted(
            OTHERS_FREE_FORM,
            *("experience_slug", "experience_title", "phone_number", "first_name", "last_name", "country"),
            *("nationality", "visit_purposes", "travel_issues", "coupon_code", "qr_code_data", "user_agent"),
            *("ip_address", "referrer"),
        ),
    ),
)

PEOPLE: Final = (
    Table(
        "vendor_members",
        "redemptions name the member's id, so the row stays without the person",
        (
            Step("account_id", Key.account, Action.scrub, {"account_id": NULL, "supabase_user_id": NULL}),
            Step("supabase_user_id", Key.sign_in_user, Action.scrub, {"supabase_user_id": NULL}),
        ),
        clean("of the vendor, not of a person", "id", "vendor_id", "role", "status"),
    ),
    Table(
        "consent_history",
        "evidence of what was consented to, and when",
        (Step("account_id", Key.account, Action.scrub, {"ip_address": NULL, "user_agent": NULL}),),
        exempt("evidence of consent names the account, of which nothing else is left", "account_id")
        | clean("evidence of consent", "id")
        | redacted(OTHERS_FREE_FORM, "consent_version", "preferences", "user_agent"),
    ),
    Table(
        "audit_events",
        "the ledger keeps what happened, not to whom",
        (
            Step("id", Key.audit_subject, Action.scrub, {"entity_id": constant(ERASED), **AUDIT_SCRUB}),
            Step("id", Key.audit_performer, Action.scrub, {"performed_by": NULL, **AUDIT_SCRUB}),
        ),
        clean("the ledger", "id", "entity_type", "event_type") | redacted(OTHERS_FREE_FORM, "payload"),
    ),
    Table(
        "account_metadata",
        "profile",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "quiz_state", "flags"),
    ),
    Table(
        "account_profiles",
        "profile, with the segments in it",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "display_name", "locale", "timezone", "demographics", "preferences"),
    ),
    Table(
        "account_linkages",
        "ties the account to a person who signs in",
        (Step("account_id", Key.account),),
        redacted(OTHERS_FREE_FORM, "metadata"),
    ),
    Table(
        "accounts",
        "a tombstone: whoever refers to it must find that it is gone",
        (
            Step(
                "id",
                Key.account,
                Action.scrub,
                {"status": constant("deleted"), "onboarding_state": constant("{}")},
            ),
        ),
        exempt("the tombstone's own id, of which nothing else is left", "id")
        | redacted(OTHERS_FREE_FORM, "onboarding_state"),
    ),
    Table(
        "data_deletion_requests",
        "evidence of the request; deleting the account would take it along",
        (
            Step(
                "account_id",
                Key.account,
                Action.scrub,
                {"request_reason": NULL, "notes": REDACTED},
            ),
        ),
        exempt("evidence of the request names the account, of which nothing else is left", "account_id")
        | clean("evidence of the request", "id", "processed_by")
        | redacted(OTHERS_FREE_FORM, "request_reason", "notes"),
    ),
)

CATALOGUE: Final = (
    Table(
        "activities",
        "the catalogue",
        columns=clean(
            "the catalogue",
            *("id", "slug", "title", "summary", "description", "google_place_id", "price_tier", "metadata"),
        ),
    ),
    Table("activity_tag_map", "the catalogue", columns=clean("the catalogue", "activity_id", "tag_id")),
    Table("activity_tags", "the catalogue", columns=clean("the catalogue", "id", "slug", "name", "color")),
    Table("quiz_forms", "questions, not answers", columns=clean("questions, not answers", "id", "definition")),
    Table(
        "vendors",
        "a business, not a person",
        columns=clean("a business, not a person", "id", "name")
        | exempt("how to reach a business that stays; its own to change", "contact_email", "contact_phone", "metadata"),
    ),
)
