"""A signal ends the demo wherever it meets a run."""

import logging
import os
import signal

import dagster as dg
import pytest

from orchestration.dagster_processes import ended_by_signals
from orchestration.demo.runs import interrupted


class Interrupt(logging.Handler):
    """Ctrl-C once the first step says this."""

    def __init__(self, told: str) -> None:
        super().__init__()
        self.told = told

    def emit(self, record: logging.LogRecord) -> None:
        if self.told and self.told in record.getMessage():
            self.told = ""
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("told", ["RUN_START", "ENGINE_EVENT", "STEP_START", "at work", "STEP_SUCCESS", ""])
def test_a_run_that_a_signal_ended_is_no_failure(told: str) -> None:
    @dg.logger
    def console(_: dg.InitLoggerContext) -> logging.Logger:
        found = logging.Logger("interrupting")
        found.addHandler(Interrupt(told))
        return found

    @dg.op(out=dg.Out(dg.Nothing))
    def first(context: dg.OpExecutionContext) -> None:
        context.log.info("at work")

    @dg.op(ins={"after": dg.In(dg.Nothing)})
    def second() -> None:
        pass

    @dg.job(logger_defs={"console": console})
    def both() -> None:
        second(first())

    with ended_by_signals(), dg.DagsterInstance.ephemeral() as instance:
        result = both.execute_in_process(
            instance=instance, raise_on_error=False, run_config={"loggers": {"console": {"config": {}}}}
        )
    assert interrupted(result) == (not result.success) == bool(told)
