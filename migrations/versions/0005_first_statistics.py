"""First statistics: the whole history counted once"""

from lifecycle.policy_tables import statistics_statements
from migrations.sql_file import run_sql_file, run_statements

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_statements(statistics_statements())
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
