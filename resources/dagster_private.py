"""Private modules of Dagster that we need, in one place: a new release is looked through here.

- `TimeWindowFreshnessPolicy`: what `FreshnessPolicy.time_window` returns, with the length of the window. Dagster
  offers no other way to ask a policy how old its asset may grow.
- `schedule_execution_time_iterator`: the moments of a cron expression in a time zone, as the daemon counts them; a
  library of ours would count otherwise at a change of the clocks.
- `FreshnessState`, `FreshnessStateChange`: what the freshness daemon reports of an asset. The public
  `DagsterInstance.report_runless_asset_event` takes it; no public module exports it. For the tests of
  `sensors/freshness.py`, which would otherwise wait for that daemon.
- `WorkspaceFileTarget`, `RemoteRepositoryOrigin`: where the UI finds a job. A run that the demo makes in its own
  process says so as well, else Dagster's UI shows it neither on Overview nor with its job.
- `DagsterUserCodeUnreachableError`: what the daemon gets from a code server that does not answer. For the tests of
  `sensors/launch_failures.py`.
- `DAEMON`: the module behind the command `dagster-daemon`. The demo and the tests start it with the interpreter that
  runs them, as `dagster dev` does, wherever that one's commands are installed.
"""

from typing import Final

from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange, TimeWindowFreshnessPolicy
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.remote_origin import RemoteRepositoryOrigin
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._utils.schedules import schedule_execution_time_iterator

__all__ = [
    "DAEMON",
    "DagsterUserCodeUnreachableError",
    "FreshnessState",
    "FreshnessStateChange",
    "RemoteRepositoryOrigin",
    "TimeWindowFreshnessPolicy",
    "WorkspaceFileTarget",
    "schedule_execution_time_iterator",
]

DAEMON: Final = "dagster._daemon"
