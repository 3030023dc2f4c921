"""The executor of every run here: Dagster's in-process executor, with a sign of life while it works.

An executor, since it is the one thing that every run has: of a job, of assets by hand, by any launcher.
"""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from resources.signs_of_life import signs_of_life


class LivingExecutor(dg.Executor):
    """Lets another executor do the work."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    @property
    def retries(self) -> Any:
        """As the other executor has them."""
        return self.inner.retries

    @property
    def step_dependency_config(self) -> Any:
        """As the other executor has it."""
        return self.inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        """Execute the plan and give signs of life until it is done."""
        with signs_of_life(plan_context.instance, plan_context.run_id):
            yield from self.inner.execute(plan_context, execution_plan)


@dg.executor(name="in_process", config_schema=dg.in_process_executor.config_schema.as_field())
def living_in_process_executor(init_context: dg.InitExecutorContext) -> LivingExecutor:
    """Every step in the run's own process, which says that it lives."""
    make = dg.in_process_executor.executor_creation_fn
    assert make is not None  # noqa: S101 - Dagster's own executor has one
    return LivingExecutor(make(init_context))
