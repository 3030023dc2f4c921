"""What one capability shows in Dagster."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg


@dataclass(frozen=True)
class Bundle:
    """Assets and checks of a capability, made from the declarations; empty where nothing is declared."""

    assets: Sequence[dg.AssetsDefinition] = ()
    checks: Sequence[dg.AssetChecksDefinition] = ()
