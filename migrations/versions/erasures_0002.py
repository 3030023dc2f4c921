"""What the session names of a batch begin with, so that texts without it are asked for none"""

from migrations.sql_file import run_sql_file

revision = "erasures_0002"
down_revision = "erasures_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_file(__file__, "upgrade")


def downgrade() -> None:
    run_sql_file(__file__, "downgrade")
