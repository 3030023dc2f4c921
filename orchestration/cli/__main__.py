"""`python -m orchestration.cli`: the command without an installed script."""

from orchestration.cli.main import app

app()
