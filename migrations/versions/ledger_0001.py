"""What fails at present, the outbox of messages, and which table is the application's ledger"""

from migrations.sql_file import run_sql_file

revision = "ledger_0001"
down_revision = None
branch_labels = ("ledger",)
depends_on = "migrating_0001"


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
