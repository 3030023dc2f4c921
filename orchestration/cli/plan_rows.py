"""What `lifecycle plan CAPABILITY` prints of one thing: a row of a table."""

from collections.abc import Sequence
from typing import Any, Final

from rich.markup import escape

from lifecycle.access.report import Difference
from lifecycle.cold.plan import ColdPlan
from lifecycle.consent.apply import AgainstConsent
from lifecycle.expiry.plan import RetentionPlan
from lifecycle.language import _, translatable
from lifecycle.units import size_text
from lifecycle.views.kept_plan import MOVES, KeptPlan
from lifecycle.views.plan import RefreshPlan


def listed(items: Sequence[str], empty: str = "-") -> str:
    """One below the other."""
    return escape("\n".join(map(_, items))) or empty


def _kept_row(plan: KeptPlan) -> tuple[str, ...]:
    if plan.state in ("stays", "absent"):
        style = "red" if plan.state == "stays" else "dim"
        return escape(str(plan.name)), f"[{style}]{escape(_(plan.told))}[/]", "", "", ""
    by = escape(plan.key or _("all rows"))
    return (
        escape(str(plan.name)),
        escape(_(plan.told)),
        by,
        _(MOVES[plan.moves]),
        escape(", ".join(plan.unstable)),
    )


def _refresh_row(plan: RefreshPlan) -> tuple[str, ...]:
    at = f"{plan.refreshed_at:%Y-%m-%d %H:%M}" if plan.refreshed_at else _("never")
    would = escape(_(plan.would))
    return plan.name, at, f"{plan.waiting:,}", f"[red]{would}[/]" if plan.would.startswith("refuse") else would


def _retention_row(plan: RetentionPlan) -> tuple[str, ...]:
    return (
        plan.table,
        plan.kept,
        "-" if plan.rows is None else f"{plan.rows:,}",
        plan.job,
        escape(_(plan.told)),
    )


def _difference_row(difference: Difference) -> tuple[str, ...]:
    return escape(difference.object), listed(difference.told)


def _cold_row(plan: ColdPlan) -> tuple[str, ...]:
    stays = size_text(plan.stays_bytes) if plan.stays_bytes else "-"
    return (
        plan.table,
        f"{listed(plan.months)}\n{size_text(plan.hot_bytes)}" if plan.months else "-",
        f"{stays}\n{escape(', '.join(plan.stays_columns))}".rstrip(),
        size_text(plan.held_bytes) if plan.held_bytes else "-",
        escape(", ".join(plan.readers)) or "-",
        f"[red]{listed(plan.refused)}[/]" if plan.refused else "-",
        listed(plan.functions),
    )


DETAILS: Final[dict[type, tuple[tuple[str, ...], Any]]] = {
    KeptPlan: (
        (
            translatable("view"),
            translatable("how"),
            translatable("refreshed by"),
            translatable("changes by time alone"),
            translatable("compared without"),
        ),
        _kept_row,
    ),
    RefreshPlan: (
        (
            translatable("what"),
            translatable("right up to, UTC"),
            translatable("waiting"),
            translatable("the next refresh would"),
        ),
        _refresh_row,
    ),
    RetentionPlan: (
        (
            translatable("table"),
            translatable("kept"),
            translatable("rows past it, about"),
            translatable("goes with the job"),
            translatable("what stands against it"),
        ),
        _retention_row,
    ),
    ColdPlan: (
        (
            translatable("table"),
            translatable("months that would leave"),
            translatable("stays for views, about"),
            translatable("stays of those that left"),
            translatable("read by"),
            translatable("refused"),
            translatable("functions that name it"),
        ),
        _cold_row,
    ),
    Difference: (
        (translatable("object"), translatable("not as declared; `lifecycle migrate` changes it")),
        _difference_row,
    ),
    AgainstConsent: (
        (translatable("table"), translatable("purpose"), translatable("rows to clear")),
        lambda found: (found.table, escape(found.purpose), f"{found.rows:,}"),
    ),
    str: (
        (translatable("missing under its name"), ""),
        lambda name: (escape(name), _("built, unless another index serves")),
    ),
}
