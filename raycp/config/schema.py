"""The JSON schema of the fleet file, for editors and other tools."""

from typing import Any

from raycp.config.fleet import FleetDoc


def fleet_json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12). It accepts more than ``load_fleet``: it lacks the rules that span fields."""
    schema = FleetDoc.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://raycp.io/schemas/v1alpha1/fleet.json",
        **schema,
        "title": "raycp fleet file",
    }
