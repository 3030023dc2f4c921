"""Who may see what: the role ops, the helpers that policies ask, what was changed and accepted"""

from migrations.sql_file import run_sql_file

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
