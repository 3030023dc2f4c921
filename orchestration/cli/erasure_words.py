"""The words of receipts and of the queue that the database keeps in English, as people read them."""

from collections.abc import Mapping
from typing import Final

from lifecycle.language import _, translatable

# The facts of a receipt that are no table, in the order in which they happened.
FACTS: Final[Mapping[str, str]] = {
    "result": translatable("result"),
    "subject": translatable("subject"),
    "policy_version": translatable("policy version"),
    "requested_at": translatable("requested at"),
    "seen_at": translatable("seen at"),
    "due_at": translatable("due at"),
    "in_time": translatable("in time"),
    "started_at": translatable("started at"),
    "collected_at": translatable("collected at"),
    "erased_at": translatable("erased at"),
    "verified_at": translatable("verified at"),
    "attempts": translatable("attempts"),
    "recurrence": translatable("recurrence"),
    "sign_in_user": translatable("sign in user"),
    "space": translatable("space"),
}
# What was searched, and how far.
SEARCHED: Final = (
    translatable("relations"),
    translatable("columns"),
    translatable("milliseconds"),
    translatable("left"),
    translatable("compressed"),
    translatable("values"),
)
STATES: Final = (
    translatable("queued"),
    translatable("held"),
    translatable("running"),
    translatable("erased"),
    translatable("verified"),
    translatable("failed"),
    translatable("cancelled"),
)
# Results, actions, reasons why a claim was not followed, what became of the sign-in.
OUTCOMES: Final = (
    translatable("verified, with exceptions"),
    translatable("delete"),
    translatable("scrub"),
    translatable("form"),
    translatable("shared"),
    translatable("ambiguous"),
    translatable("deleted"),
    translatable("none"),
    translatable("left: another account signs in with it"),
    translatable("True"),
    translatable("False"),
    translatable("None"),
    translatable("deleted bytes stay in the data files until VACUUM, in backups until these expire"),
)


def word(text: object) -> str:
    """A word of the database's as people read it; whatever else it said as it is."""
    return _(str(text))
