"""Names and examples of the environment variables, for messages. Nothing is read here."""

from typing import Final

from lifecycle.language import _

URL_VARIABLE: Final = "LIFECYCLE_DATABASE_URL"
URL_EXAMPLE: Final = "postgresql://postgres:password@db.example.com:5432/postgres"
APPLICATION_VARIABLE: Final = "LIFECYCLE_APPLICATION"
BINARIES_VARIABLE: Final = "LIFECYCLE_PG_BIN"
TOKEN_VARIABLE: Final = "SLACK_BOT_TOKEN"  # noqa: S105 - its name
CHANNEL_VARIABLE: Final = "SLACK_CHANNEL"
WEBHOOK_VARIABLE: Final = "SLACK_WEBHOOK_URL"
BASE_URL_VARIABLE: Final = "SLACK_BASE_URL"
UI_URL_VARIABLE: Final = "LIFECYCLE_UI_URL"
LANGUAGE_VARIABLE: Final = "LIFECYCLE_LANGUAGE"


def missing_url() -> str:
    """What to set, with an example, where nobody said which database."""
    return _(
        "{variable} is not set. It says which database to work on. Set it where the command or the run starts, "
        "for example: export {variable}={example}"
    ).format(variable=URL_VARIABLE, example=URL_EXAMPLE)
