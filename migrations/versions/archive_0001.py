"""Archives: which column of a table is kept under which name, and groups that were brought back"""

from migrations.sql_file import run_sql_file

revision = "archive_0001"
down_revision = None
branch_labels = ("archive",)
depends_on = "ledger_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
