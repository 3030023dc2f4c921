"""Names and examples of the environment variables, for messages. Nothing is read here."""

from typing import Final

from lifecycle.language import _

URL_VARIABLE: Final = "LIFECYCLE_DATABASE_URL"
URL_EXAMPLE: Final = "postgresql://postgres:password@db.example.com:5432/postgres"
HOME_VARIABLE: Final = "DAGSTER_HOME"
HOME_EXAMPLE: Final = "$HOME/dagster_home"
STORAGE_VARIABLE: Final = "DAGSTER_PG_URL"
STORAGE_EXAMPLE: Final = "postgresql+psycopg2://dagster:password@db.example.com:5432/dagster"
APPLICATION_VARIABLE: Final = "LIFECYCLE_APPLICATION"
BINARIES_VARIABLE: Final = "LIFECYCLE_PG_BIN"
TOKEN_VARIABLE: Final = "SLACK_BOT_TOKEN"  # noqa: S105 - its name
CHANNEL_VARIABLE: Final = "SLACK_CHANNEL"
WEBHOOK_VARIABLE: Final = "SLACK_WEBHOOK_URL"
BASE_URL_VARIABLE: Final = "SLACK_BASE_URL"
UI_URL_VARIABLE: Final = "LIFECYCLE_UI_URL"
WATCHDOG_VARIABLE: Final = "LIFECYCLE_WATCHDOG_URL"
LANGUAGE_VARIABLE: Final = "LIFECYCLE_LANGUAGE"
COLD_URL_VARIABLE: Final = "LIFECYCLE_COLD_URL"
COLD_URL_EXAMPLE: Final = "s3://bucket/prefix"
ACCESS_KEY_VARIABLE: Final = "AWS_ACCESS_KEY_ID"
SECRET_KEY_VARIABLE: Final = "AWS_SECRET_ACCESS_KEY"  # noqa: S105 - its name
SESSION_TOKEN_VARIABLE: Final = "AWS_SESSION_TOKEN"  # noqa: S105 - its name
REGION_VARIABLE: Final = "AWS_REGION"
# The first that is set counts, as with AWS's own tools.
ENDPOINT_VARIABLES: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")


def missing_url() -> str:
    """What to set, with an example, where nobody said which database."""
    return _(
        "{variable} is not set. It says which database to work on. Set it where the command or the run starts, "
        "for example: export {variable}={example}"
    ).format(variable=URL_VARIABLE, example=URL_EXAMPLE)


def missing_cold_url() -> str:
    """What to set, with an example, where nobody said where cold months are."""
    return _(
        "{variable} is not set. It says where months go that leave the database: a bucket or a folder. Set it where "
        "the command or the run starts, for example: export {variable}={example}"
    ).format(variable=COLD_URL_VARIABLE, example=COLD_URL_EXAMPLE)


def missing_home() -> str:
    """What to set, with an example, where nobody said where Dagster's settings are."""
    return _(
        "{variable} is not set to a whole path. It says which folder holds Dagster's settings and logs. Set it where "
        "the command starts, for example: export {variable}={example}"
    ).format(variable=HOME_VARIABLE, example=HOME_EXAMPLE)


def missing_storage() -> str:
    """What to set, with an example, where nobody said which database is Dagster's own."""
    return _(
        "{variable} is not set. It says which database keeps Dagster's runs; not the application's. Set it where "
        "the command starts, for example: export {variable}={example}"
    ).format(variable=STORAGE_VARIABLE, example=STORAGE_EXAMPLE)
