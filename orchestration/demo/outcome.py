"""All that the demo came to, and whether that is what it should be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.application import application_key
from lifecycle.declarations.application import Application
from orchestration.demo.broken_view import Play
from orchestration.demo.channel import Message
from orchestration.demo.cold import ColdSeen
from orchestration.demo.erased import Erased
from orchestration.demo.inventory import AssetState, warned
from orchestration.demo.person import Person
from orchestration.demo.runs import failures


@dataclass(frozen=True)
class DemoReport:
    """What came of it.

    The declarations; rows per event table before, after the conversion and after the rotation; every run but those of
    the broken view; every asset as the instance knows it; the broken view, the person who took back a consent and asked
    for their data, the months in files, the one erased, and the channel at the end.
    """

    application: Application
    before: Mapping[str, int]
    converted: Mapping[str, int]
    after: Mapping[str, int]
    runs: Sequence[dg.ExecuteInProcessResult]
    assets: Sequence[AssetState]
    play: Play
    person: Person
    cold: ColdSeen
    erased: Erased
    channel: Sequence[Message]

    @property
    def conversion(self) -> dg.ExecuteInProcessResult:
        return self.runs[0]

    @property
    def rotation(self) -> dg.ExecuteInProcessResult:
        return self.runs[1]

    @property
    def review_queued(self) -> bool:
        """Whether this week's review was put in the outbox now; an earlier demo in this folder has sent it already."""
        (event,) = self.runs[-1].asset_materializations_for_node("review_the_week") or (None,)
        queued = event.metadata["sent_to_outbox"].value if event else False
        return bool(queued)

    def of_kind(self, kind: str) -> list[Message]:
        """The channel's messages of one kind: failure, recovery or report."""
        return [message for message in self.channel if message.kind == kind]

    @property
    def warnings(self) -> list[tuple[str, str]]:
        """(asset and check, what it says) of each check that warns: nothing to be mended in the demo."""
        return [
            (f"{state.key.path[-1]} {check.name}", evaluation.description or "")
            for state in self.assets
            for check, evaluation in state.checks.items()
            if evaluation is not None and warned(evaluation)
        ]

    @property
    def faults(self) -> list[str]:
        """Everything that is not as it should be; empty when the demo did what it should."""
        found = [f"{result.job_def.name}: {text}" for result in self.runs for text in failures(result)]
        found += [f"{result.job_def.name} did not succeed" for result in self.runs if not result.success]
        if self.before != self.converted:
            found.append("the conversion changed the number of rows")
        # A kept view that the application lacks in this state, as its declaration allows.
        absent = {application_key(name) for name, view in self.application.views.kept.items() if view.optional}
        found += [
            f"{state.key.to_user_string()} was not materialized"
            for state in self.assets
            if not state.materialized and state.key not in absent
        ]
        for state in self.assets:
            for check, evaluation in state.checks.items():
                name = f"{state.key.to_user_string()} {check.name}"
                if evaluation is None:
                    found.append(f"{name} was not evaluated")
                elif not evaluation.passed and not warned(evaluation):
                    found.append(f"{name}: {evaluation.description or 'failed'}")
        if not self.play.as_expected:
            found.append("the broken view was not one message that it fails and one that it works again")
        if self.person.fault is not None:
            found.append(f"consent and export: {self.person.fault}")
        if self.cold.fault is not None:
            found.append(f"cold months: {self.cold.fault}")
        if self.erased.fault is not None:
            found.append(f"the erasure: {self.erased.fault}")
        for kind, expected in {"failure": 1, "recovery": 1, "report": int(self.review_queued)}.items():
            if (count := len(self.of_kind(kind))) != expected:
                found.append(f"Slack shows {count} messages of kind {kind}, not {expected}")
        return found
