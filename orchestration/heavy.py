"""The heavy jobs that operations.yaml names are jobs that there may be."""

import difflib

from lifecycle.declarations.application import Application
from lifecycle.errors import DeclarationError
from orchestration import conversion, maintenance
from orchestration.jobs import ASSET_JOBS, declared_jobs


def require_known(application: Application) -> None:
    """Raise DeclarationError for a name that no job can have: a typo would leave a job unpaced, and nobody would know.

    A job that these declarations ask nothing of may be named.
    """
    known = {row.name for row in (*ASSET_JOBS, *declared_jobs(application))} | {conversion.JOB, maintenance.JOB}
    for name in application.operations.heavy_jobs:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise DeclarationError(
                f"operations.yaml: heavy_jobs: there is no job {name}{meant} (known: {', '.join(sorted(known))})"
            )
