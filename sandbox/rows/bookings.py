"""Booking forms, their vouchers, redemptions at vendors, and the audit trail."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from sandbox.rows.catalogue import vendor_members
from sandbox.rows.copying import line, text_array
from sandbox.rows.vocabulary import COUNTRIES, DEVICES, FAMILY_NAMES, GIVEN_NAMES, ISSUES, PURPOSES
from sandbox.rows.world import World, email_of, make_uuid, often_the_first

VOUCHER_DAYS = 1_250  # beyond the 36 months that vouchers are kept


def _submissions(world: World) -> Iterator[tuple[str, int, datetime, str]]:
    """(id, number of the account, created at, status) of each booking form."""
    rng = world.rng("form submissions")
    for _ in range(world.scale.bookings):
        status = rng.choice(("pending", "confirmed", "redeemed", "redeemed", "cancelled"))
        number = int(world.scale.accounts * rng.random())
        yield make_uuid(rng), number, world.ago(rng, VOUCHER_DAYS), status


def submission_lines(world: World) -> Iterator[str]:
    """form_submissions: id, activity_id, experience_slug, experience_title, account_id, email, phone_number,
    first_name, last_name, country, nationality, visit_purposes, travel_issues, coupon_code, booking_date, status,
    scans_used, qr_code_data, user_agent, ip_address, referrer, created_at, updated_at.

    Every seventh has no account although its e-mail is an account's, some of them in other spelling.
    """
    rng = world.rng("form submission details")
    for count, (submission, number, created, status) in enumerate(_submissions(world)):
        activity = often_the_first(rng, world.activities)
        email = email_of(number)
        yield line(
            submission,
            activity.id if count % 9 else None,
            activity.slug if count % 9 else "",
            activity.title if count % 9 else "",
            world.accounts[number] if count % 7 else None,
            f" {email.upper()}" if count % 14 == 7 else email,
            None if count % 5 == 0 else f"+81 90 0000 {number % 10_000:04d}",
            rng.choice(GIVEN_NAMES),
            rng.choice(FAMILY_NAMES),
            rng.choice(COUNTRIES),
            None,
            text_array(rng.sample(PURPOSES, 2)),
            None if count % 3 == 0 else text_array(rng.sample(ISSUES, rng.randrange(3))),
            f"WELCOME{count % 10}" if count % 4 == 0 else None,
            (created + timedelta(days=rng.randrange(1, 40))).date(),
            status,
            1 if status == "redeemed" else 0,
            {"version": 1, "code": f"FK-{count:07d}"} if status != "pending" else None,
            rng.choice(DEVICES)[0],
            f"198.51.100.{number % 256}",
            None,
            created,
            created,
        )


def _vouchers(world: World) -> Iterator[tuple[str, str, int, int, datetime, bool]]:
    """(id, form submission, its place, number of the account, created at, redeemed)"""
    rng = world.rng("vouchers")
    for count, (submission, number, created, status) in enumerate(_submissions(world)):
        if status in ("confirmed", "redeemed"):
            yield make_uuid(rng), submission, count, number, created, status == "redeemed"


def voucher_lines(world: World) -> Iterator[str]:
    """vouchers: id, form_submission_id, voucher_code, qr_token, valid_from, valid_until, max_redemptions,
    redemptions_used, metadata, created_at. Metadata may name the guest."""
    rng = world.rng("voucher details")
    for voucher, submission, count, number, created, redeemed in _vouchers(world):
        metadata = {"guest": email_of(number), "amount": 500 * rng.randrange(1, 20)} if count % 3 else {}
        token = None if count % 8 == 0 else f"{rng.getrandbits(96):024x}"
        until = created + timedelta(days=60)
        yield line(voucher, submission, f"FK-{count:07d}", token, created, until, 1, int(redeemed), metadata, created)


def redemption_lines(world: World) -> Iterator[str]:
    """voucher_redemptions: id, voucher_id, vendor_member_id, scan_context, scanned_at."""
    rng = world.rng("redemptions")
    members = [member for member, *_ in vendor_members(world)]
    for voucher, _submission, count, number, created, redeemed in _vouchers(world):
        if redeemed:
            context = (
                {"ip": f"198.51.100.{number % 256}", "device": rng.choice(("iOS", "Android"))} if count % 4 else {}
            )
            when = min(created + timedelta(hours=rng.randrange(1, 900)), world.now)
            yield line(make_uuid(rng), voucher, rng.choice(members) if count % 10 else None, context, when)


def audit_lines(world: World) -> Iterator[str]:
    """audit_events: id, entity_type, entity_id, event_type, performed_by, payload, created_at.

    Payloads name people, as such trails do; every fifth names another account than its entity.
    """
    rng = world.rng("audit events")
    for number, account in enumerate(world.accounts):
        when = world.ago(rng, 700)
        yield line(
            make_uuid(rng),
            "account",
            account,
            "signed_up",
            account,
            {"email": email_of(number), "ip": "203.0.113.9"},
            when,
        )
        if number % 5 == 0:
            other = rng.randrange(len(world.accounts))
            payload = {"invitedBy": email_of(other), "account": world.accounts[other]}
            yield line(make_uuid(rng), "vendor", f"vendor-{number}", "member_invited", None, payload, when)
