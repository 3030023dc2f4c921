"""Declared dashboards: where lineage ends."""

import pytest
from pydantic import ValidationError

from assets.application import application_key
from lifecycle.declarations.views import Dashboard
from orchestration.definitions import build_definitions
from tests.declared import APPLICATION
from tests.few_views import DAILY, DETAILS


def test_a_dashboard_stands_below_what_it_reads() -> None:
    board = Dashboard.model_validate(
        {"url": "https://bi.example.com/1", "owner": "team:growth", "views": [str(DAILY), str(DETAILS)]}
    )
    views = APPLICATION.views.model_copy(update={"dashboards": {"Active users": board}})
    definitions = build_definitions(APPLICATION.model_copy(update={"views": views}))
    (spec,) = [spec for spec in definitions.resolve_all_asset_specs() if spec.group_name == "dashboards"]
    assert spec.owners == ["team:growth"]
    assert {dep.asset_key for dep in spec.deps} == {application_key(DAILY), application_key(DETAILS)}
    assert spec.metadata["url"].value == board.url
    assert not [spec for spec in build_definitions(APPLICATION).resolve_all_asset_specs() if "dashboard" in spec.kinds]


@pytest.mark.parametrize("wrong", [{"owner": "somebody"}, {"url": "bi.example.com"}, {"views": []}])
def test_a_dashboard_names_its_place_its_owner_and_its_views(wrong: dict[str, object]) -> None:
    said = {"url": "https://bi.example.com", "owner": "bi@example.com", "views": ["public.daily_active_users"]}
    Dashboard.model_validate(said)
    with pytest.raises(ValidationError):
        Dashboard.model_validate(said | wrong)
