"""Activities with tags, categories and pictures, what accounts did with them, and the vendors who offer them."""

from collections.abc import Iterator
from datetime import timedelta

from sandbox.rows.copying import line
from sandbox.rows.vocabulary import CATEGORIES, EXPERIENCES, GIVEN_NAMES, REVIEWS, TAGS
from sandbox.rows.world import World, make_uuid

SINGLE = ("like", "bookmark", "ai_save")  # at most one each per account and activity
REPEATED = ("view", "share", "book", "qr_scan")
SOURCES = ("manual", "quiz", "recommendation", "chat", "migration", None)


def tags(world: World) -> Iterator[str]:
    """activity_tags: id, slug, name, color, is_active, created_at."""
    for number, (slug, name, color) in enumerate(TAGS):
        yield line(world.tags[slug], slug, name, color, slug != "quiet", world.now - timedelta(days=900 - number))


def activities(world: World) -> Iterator[str]:
    """activities: id, slug, title, summary, description, status, google_place_id, duration_minutes, price_tier,
    metadata, is_active, created_at, updated_at."""
    rng = world.rng("activities")
    for number, activity in enumerate(world.activities):
        status = ("published", "published", "published", "draft", "archived")[number % 5]
        created = world.ago(rng, 800)
        experience = activity.experience
        yield line(
            activity.id,
            activity.slug,
            activity.title,
            experience.summary,
            None if number % 6 == 0 else f"{experience.title}\n\n{experience.summary}。",
            status,
            None if number % 4 == 0 else f"ChIJ{rng.getrandbits(80):020x}",
            experience.minutes,
            experience.price,
            {"lat": 35.6 + rng.random() / 2, "lng": 136.0 + rng.random() / 2},
            status == "published",
            created,
            created + timedelta(days=3),
        )


def tag_map(world: World) -> Iterator[str]:
    """activity_tag_map: activity_id, tag_id."""
    for activity in world.activities:
        for slug in activity.experience.tags:
            yield line(activity.id, world.tags[slug])


def _category_ids(world: World) -> list[str]:
    """The categories, then a sub-category of the first."""
    rng = world.rng("category ids")
    return [make_uuid(rng) for _ in range(len(CATEGORIES) + 1)]


def categories(world: World) -> Iterator[str]:
    """activity_categories: id, slug, name, description, parent_id, is_active, created_at."""
    ids = _category_ids(world)
    created = world.now - timedelta(days=800)
    for category, (slug, name) in zip(ids, CATEGORIES, strict=False):
        yield line(category, slug, name, None, None, slug != "wellness", created)
    yield line(ids[-1], "crafts", "伝統工芸", "Hands-on", ids[0], True, created)


def category_map(world: World) -> Iterator[str]:
    """activity_category_map: activity_id, category_id."""
    ids = _category_ids(world)
    for number, activity in enumerate(world.activities):
        yield line(activity.id, ids[number % len(ids)])


def assets(world: World) -> Iterator[str]:
    """activity_assets: id, activity_id, asset_type, url, metadata, is_primary, created_at."""
    rng = world.rng("assets")
    for activity in world.activities:
        for place, kind in enumerate(("image", "image", "video")[: rng.randrange(4)]):
            url = f"https://assets.example.jp/{activity.slug}/{place}"
            yield line(make_uuid(rng), activity.id, kind, url, {"alt": activity.title}, place == 0, world.ago(rng, 700))


def reviews(world: World) -> Iterator[str]:
    """reviews: id, activity_id, account_id, user_id, rating, comment, created_at, updated_at.

    Some name the account, some the auth user only, some nobody.
    """
    rng = world.rng("reviews")
    for number in range(2 * len(world.activities)):
        index = rng.randrange(len(world.accounts))
        account, user = (
            (world.accounts[index], world.users[index]),
            (world.accounts[index], None),
            (None, world.users[index]),
            (None, None),
        )[number % 4]
        comment = rng.choice(REVIEWS).format(name=rng.choice(GIVEN_NAMES))
        when = world.ago(rng, world.scale.app_days)
        rating = rng.choice((5, 5, 4, 3, None))
        yield line(make_uuid(rng), rng.choice(world.activities).id, account, user, rating, comment, when, when)


def interactions(world: World) -> Iterator[str]:
    """activity_interactions: id, account_id, activity_id, activity_slug, interaction_type, source_type,
    source_id, score_delta, metadata, created_at, updated_at."""
    rng = world.rng("interactions")
    for account in world.accounts:
        for activity in rng.sample(world.activities, rng.randrange(6)):
            kinds = [kind for kind in SINGLE if rng.random() < 0.3] + rng.choices(REPEATED, k=rng.randrange(3))
            for kind in kinds:
                when = world.ago(rng, world.scale.app_days)
                known = rng.random() < 0.95  # some slugs outlived their activity
                yield line(
                    make_uuid(rng),
                    account,
                    activity.id if known else None,
                    activity.slug if known else f"{activity.slug}-閉店",
                    kind,
                    rng.choice(SOURCES),
                    None,
                    rng.choice((1, 3, 5, None)),
                    {},
                    when,
                    when,
                )


def vendor_ids(world: World) -> list[str]:
    """One vendor per experience."""
    rng = world.rng("vendor ids")
    return [make_uuid(rng) for _ in EXPERIENCES]


def vendors(world: World) -> Iterator[str]:
    """vendors: id, name, contact_email, contact_phone, metadata, created_at."""
    rng = world.rng("vendors")
    for number, (vendor, experience) in enumerate(zip(vendor_ids(world), EXPERIENCES, strict=True)):
        name = f"{experience.title}（株）" if number % 2 else experience.title
        phone = None if number % 5 == 0 else f"0776-00-{number:04d}"
        yield line(vendor, name, f"vendor{number}@example.jp", phone, {}, world.ago(rng, 800))


def vendor_map(world: World) -> Iterator[str]:
    """activity_vendor_map: activity_id, vendor_id, relationship_type."""
    ids = vendor_ids(world)
    for number, activity in enumerate(world.activities):
        yield line(activity.id, ids[number % len(ids)], "owner")
        if number % 6 == 0:
            yield line(activity.id, ids[(number + 1) % len(ids)], "partner")


def vendor_members(world: World) -> Iterator[tuple[str, str, str | None, str | None, str, int]]:
    """(id, vendor, account, auth user, role, number of the vendor) of each member; even vendors have one admin
    only, and every fifth has an invited member without an account."""
    rng = world.rng("vendor members")
    for number, vendor in enumerate(vendor_ids(world)):
        for place in range(1 if number % 2 == 0 else 3):
            index = (number * 7 + place) % len(world.accounts)
            role = "admin" if place == 0 else "staff"
            yield make_uuid(rng), vendor, world.accounts[index], world.users[index], role, number
        if number % 5 == 0:
            yield make_uuid(rng), vendor, None, None, "staff", number


def member_lines(world: World) -> Iterator[str]:
    """vendor_members: id, vendor_id, account_id, supabase_user_id, role, invited_at, joined_at, status."""
    rng = world.rng("vendor member times")
    for member, vendor, account, user, role, _number in vendor_members(world):
        invited = world.ago(rng, 600)
        joined = invited + timedelta(days=1) if account else None
        yield line(member, vendor, account, user, role, invited, joined, "active" if account else "invited")
