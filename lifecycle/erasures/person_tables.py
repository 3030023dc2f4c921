"""Who a person is, on the map of personal data: bookings, profile, consent, ledger; and what is nobody's."""

from typing import Final

from lifecycle.erasures.data_map import (
    ERASED,
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

# What a row of the ledger may still say once the person is gone.
AUDIT_KEYS: Final = ("status", "action", "reason_code", "rows", "duration_ms", "run_id", "object", "amount", "version")
AUDIT_SCRUB: Final = {"payload": allowed(*AUDIT_KEYS)}

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
