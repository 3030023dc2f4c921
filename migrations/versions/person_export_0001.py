"""The log of exports of a person's data"""

from migrations.sql_file import run_sql_file

revision = "person_export_0001"
down_revision = None
branch_labels = ("person_export",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
