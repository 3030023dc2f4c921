"""Resources that the configuration of a run cannot reach."""

from typing import Any

import dagster as dg


def closed(resource: Any) -> dg.ResourceDefinition:
    """The resource with the values it has here, from the code or the environment; a run that names one is refused.

    Otherwise whoever may launch a run names an address of his own, and reads there what was meant for ours; or an
    environment variable, and reads its value in the events of the run. The values stand in no snapshot of a job.
    """
    definition: dg.ResourceDefinition = (
        resource if isinstance(resource, dg.ResourceDefinition) else resource.get_resource_definition()
    )
    schema = definition.config_schema
    values = schema.default_value if schema.default_provided else {}
    return definition.configured(lambda _nothing: values, config_schema={})
