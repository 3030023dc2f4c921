"""person_export.yaml: what the cover sheet of a person's export says of each table, in both languages."""

from pydantic import Field, RootModel

from lifecycle.declarations.model import Declared
from lifecycle.names import QualifiedName


class Explanation(Declared):
    """What a table of the map of personal data is, for the person whose rows are in it. `derived`: computed from other
    data of the person."""

    ja: str = Field(min_length=1, description="in Japanese")
    en: str = Field(min_length=1, description="in English")
    derived: bool = False


class Explanations(RootModel[dict[QualifiedName, Explanation]]):
    """Tables by name. One that is missing is explained by its comment and by the map's own words."""

    root: dict[QualifiedName, Explanation] = Field(default_factory=dict)
