"""Accounts and what hangs on them: sign-in, profile with consent, linkage, consent history, deletion requests."""

from collections.abc import Iterator
from datetime import timedelta

from sandbox.rows.copying import line
from sandbox.rows.vocabulary import COUNTRIES, DEVICES, FAMILY_NAMES, GIVEN_NAMES
from sandbox.rows.world import World, email_of, make_uuid

LOCALES = ("ja-JP", "en-US", "zh-TW", "ko-KR", "fr-FR")
ZONES = ("Asia/Tokyo", "America/New_York", "Asia/Taipei", "Asia/Seoul", "Europe/Paris")
CONSENT_VERSIONS = ("1.0", "1.1", "2.0")
UNCONFIRMED = 13
CHANGING = 19


def accounts(world: World) -> Iterator[str]:
    """accounts: id, status, onboarding_state, created_at, updated_at."""
    rng = world.rng("accounts")
    for number, account in enumerate(world.accounts):
        created = world.ago(rng, world.scale.event_days)
        status = "deleted" if number % 97 == 96 else "suspended" if number % 61 == 60 else "active"
        onboarding = {} if number % 11 == 0 else {"step": rng.randrange(5), "quizDone": rng.random() < 0.6}
        updated = created + (world.now - created) * rng.random()
        yield line(account, status, onboarding, created, updated)


def users(world: World) -> Iterator[str]:
    """auth.users: id, email, phone, email_confirmed_at, email_change, raw_app_meta_data, raw_user_meta_data,
    created_at.

    Every thirteenth address was never confirmed; every nineteenth user wants another one, which is not, either.
    """
    rng = world.rng("users")
    for number, user in enumerate(world.users):
        name = rng.choice(GIVEN_NAMES)
        created = world.ago(rng, world.scale.event_days)
        yield line(
            user,
            email_of(number),
            f"8180{number:08d}" if number % 4 == 1 else None,
            None if number % UNCONFIRMED == UNCONFIRMED - 1 else created + timedelta(minutes=3),
            f"new.{email_of(number)}" if number % CHANGING == CHANGING - 1 else None,
            {"provider": "email"},
            {"name": name},
            created,
        )


def linkages(world: World) -> Iterator[str]:
    """account_linkages: account_id, supabase_user_id, provider_type, linked_at, metadata."""
    rng = world.rng("linkages")
    for number, (account, user) in enumerate(zip(world.accounts, world.users, strict=True)):
        yield line(account, user, "supabase", world.ago(rng, world.scale.event_days), {})
        if number % 17 == 0:
            yield line(account, None, "line", world.ago(rng, world.scale.event_days), {"lineId": f"U{number:08x}"})


def metadata(world: World) -> Iterator[str]:
    """account_metadata: account_id, quiz_state, last_synced_at, flags."""
    rng = world.rng("metadata")
    for number, account in enumerate(world.accounts):
        if number % 3 == 0:
            yield line(account, None, None, {})
        else:
            yield line(account, {"page": rng.randrange(6)}, world.ago(rng, 200), {"beta": rng.random() < 0.1})


def _consent(number: int) -> dict[str, bool]:
    return {
        "necessary": True,
        "analytics": number % 4 != 0,
        "marketing": number % 3 == 0,
        "personalization": number % 5 != 0,
    }


def profiles(world: World) -> Iterator[str]:
    """account_profiles: account_id, display_name, locale, timezone, demographics, preferences, updated_at."""
    rng = world.rng("profiles")
    for number, account in enumerate(world.accounts):
        consented = world.ago(rng, 400)
        preferences = {
            "consent": {
                "version": CONSENT_VERSIONS[number % 3],
                "timestamp": consented.isoformat(),
                "preferences": _consent(number),
            },
            "notifications": {"email": rng.random() < 0.5, "push": rng.random() < 0.3},
            "display": {"theme": rng.choice(("light", "dark")), "文字サイズ": rng.choice(("標準", "大"))},
        }
        name = None if number % 23 == 0 else f"{rng.choice(FAMILY_NAMES)} {rng.choice(GIVEN_NAMES)}"
        where = rng.randrange(len(LOCALES))
        demographics = {"country": rng.choice(COUNTRIES), "ageGroup": rng.choice(("20s", "30s", "40s", "60s"))}
        yield line(
            account,
            name,
            LOCALES[where],
            ZONES[where],
            demographics if number % 7 else {},
            preferences if number % 13 else {},
            consented,
        )


def consents(world: World) -> Iterator[str]:
    """consent_history: id, account_id, consent_version, preferences, ip_address, user_agent, created_at."""
    rng = world.rng("consents")
    for number, account in enumerate(world.accounts):
        given = world.ago(rng, 700)
        for version in range(1 + number % 3):
            address = f"2001:db8::{number % 65536:x}" if number % 5 == 0 else f"203.0.113.{number % 256}"
            agent = DEVICES[number % len(DEVICES)][0]
            when = given + (world.now - given) * (version / 4)
            yield line(
                make_uuid(rng), account, CONSENT_VERSIONS[version], _consent(number + version), address, agent, when
            )


def deletion_requests(world: World) -> Iterator[str]:
    """data_deletion_requests, in every state: id, account_id, request_reason, status, requested_at,
    processed_at, completed_at, processed_by, notes."""
    rng = world.rng("deletion requests")
    for number, account in enumerate(world.accounts[::40]):
        status = ("pending", "pending", "processing", "completed", "failed")[number % 5]
        # The deadline is a month; a sandbox in which everybody waited too long would be red from the start.
        asked = world.ago(rng, 20 if status in ("pending", "processing") else 60)
        taken = asked + timedelta(hours=5) if status != "pending" else None
        done = asked + timedelta(hours=6) if status == "completed" else None
        reason = rng.choice(("もう使わない", "privacy", "", None))
        notes = "connection lost" if status == "failed" else None
        yield line(make_uuid(rng), account, reason, status, asked, taken, done, "support" if taken else None, notes)
