"""Areas and facilities of Fukui, stays in Awara Onsen, and the gift vouchers of the RENEW event."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sandbox.real_data import files, survey
from sandbox.real_data.files import csv_rows
from sandbox.real_data.material import PAYMENT_DAYS_BACK, TOKYO, Material, member_account, row_id
from sandbox.rows.copying import line


def tags(material: Material) -> Iterator[str]:
    """activity_tags: id, slug, name. One per municipality."""
    for name in dict.fromkeys(row["市町名"] for row in csv_rows(material.folder, files.AREAS)):
        yield line(row_id("tag", name), name, name)


def activities(material: Material) -> Iterator[str]:
    """activities: id, slug, title, summary, description, status, metadata, is_active. One per area."""
    for row in csv_rows(material.folder, files.AREAS):
        metadata = {"lat": row["緯度"], "lng": row["経度"], "formerName": row["旧エリア名"]}
        yield line(
            *(row_id("area", row["id"]), f"area-{row['id']}", row["エリア名"], row["市町名"]),
            *(row["エリア説明文"], "published", metadata, True),
        )


def tag_map(material: Material) -> Iterator[str]:
    """activity_tag_map: activity_id, tag_id."""
    for row in csv_rows(material.folder, files.AREAS):
        yield line(row_id("area", row["id"]), row_id("tag", row["市町名"]))


def vendors(material: Material) -> Iterator[str]:
    """vendors: id, name, contact_phone, metadata. One per facility."""
    for row in csv_rows(material.folder, files.SPOTS):
        metadata = {
            "area": row["親番号"],
            "address": row["住所"],
            "hours": row["営業時間"],
            "closed": row["定休日"],
            "url": row["店舗URL"],
            "description": row["施設説明文"],
        }
        spot = row_id("spot", row["親番号"], row["子番号"], row["施設名称"])
        yield line(spot, row["施設名称"], row["電話番号"] or None, metadata)


class Payment(NamedTuple):
    """One gift voucher that was paid with."""

    place: int
    account: str | None
    at: datetime
    amount: int
    row: dict[str, str]


def _payments(material: Material) -> Iterator[Payment]:
    """All payments; those that the linked file names carry the survey member's account."""
    linked: dict[tuple[str, ...], list[str]] = {}
    for row in csv_rows(material.folder, files.LINKED_PAYMENTS):
        linked.setdefault(_key(row), []).append(row["会員ID"])
    last = max(_time(row) for row in csv_rows(material.folder, files.PAYMENTS))
    shift = material.shift(last, PAYMENT_DAYS_BACK)
    for place, row in enumerate(csv_rows(material.folder, files.PAYMENTS)):
        members = linked.get(_key(row))
        member = members.pop() if members else None
        account = member_account(member) if member in material.members else None
        yield Payment(place, account, _time(row) + shift, _amount(row), row)


def _key(row: dict[str, str]) -> tuple[str, ...]:
    columns = ("都道府県", "市区町村", "年齢", "性別", "商品券決済日時")
    return (*(row[column] for column in columns), str(_amount(row)))


def _time(row: dict[str, str]) -> datetime:
    parsed = datetime.strptime(row["商品券決済日時"], "%Y/%m/%d %H:%M")
    return parsed.replace(tzinfo=TOKYO).astimezone(UTC)


def _amount(row: dict[str, str]) -> int:
    return int(row["商品券決済金額"].replace(",", ""))


def submissions(material: Material) -> Iterator[str]:
    """form_submissions: id, experience_slug, experience_title, account_id, email (invented), country, status,
    scans_used, created_at, updated_at."""
    for payment in _payments(material):
        booked = payment.at - timedelta(days=7)
        yield line(
            *(row_id("form", payment.place), "renew", "RENEW", payment.account),
            *(f"voucher-{payment.place:05d}@example.invalid", "Japan", "redeemed", 1, booked, payment.at),
        )


def vouchers(material: Material) -> Iterator[str]:
    """vouchers: id, form_submission_id, voucher_code (invented), valid_from, redemptions_used, metadata,
    created_at."""
    for payment in _payments(material):
        booked = payment.at - timedelta(days=7)
        metadata = {"amount": payment.amount, "currency": "JPY", "trade": payment.row["産業"]}
        form, voucher = row_id("form", payment.place), row_id("voucher", payment.place)
        yield line(voucher, form, f"RENEW-{payment.place:05d}", booked, 1, metadata, booked)


def redemptions(material: Material) -> Iterator[str]:
    """voucher_redemptions: id, voucher_id, scan_context, scanned_at."""
    for payment in _payments(material):
        row = payment.row
        context = {
            "area": row["3市町"],
            "prefecture": row["都道府県"],
            "city": row["市区町村"],
            "age": row["年齢"],
            "gender": row["性別"],
        }
        yield line(row_id("redemption", payment.place), row_id("voucher", payment.place), context, payment.at)


def business_events(material: Material) -> Iterator[str]:
    """business_metrics_events, columns as in survey.business_events: the survey, then stays in Awara Onsen."""
    yield from survey.business_events(material)
    yield from stays(material)


def stays(material: Material) -> Iterator[str]:
    """business_metrics_events, a row per day and prefecture of the guests of Awara Onsen.

    Days after the last one that had passed are bookings in advance and are left out.
    """
    shift = material.survey_shift
    for place, row in enumerate(csv_rows(material.folder, files.STAYS)):
        # Both sources were read on the same day, so one shift brings both up to now.
        at = datetime.fromisoformat(row["date_visit"]).replace(hour=15, tzinfo=TOKYO).astimezone(UTC) + shift
        if at < material.now:
            revenue: dict[str, Any] = {"amount": int(row["amount_fee"] or 0), "currency": "JPY"}
            revenue |= {key: int(row[key] or 0) for key in ("n_reserve", "n_people", "n_room", "n_stay")}
            yield line(
                *(row_id("stay", place), None, f"awara-{row['date_visit']}", at, "/stays", "awara-onsen"),
                *("あわら温泉", {"step": "booked"}, revenue, {"prefecture": row["prefecture"]}, None, at),
            )
