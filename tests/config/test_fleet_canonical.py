"""Canonical form, generation, difference, schema, reference, and the shipped files."""

import json
from pathlib import Path

import pytest

from raycp.config import FleetDoc, diff, fleet_json_schema, generation, load_fleet, parse_fleet
from raycp.config.canonical import parts
from raycp.config.embedded import EmbeddedSpec
from raycp.config.reference import markdown, rows
from raycp.config.units import UnitError

ROOT = Path(__file__).parents[2]
BASE = """
apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: x}
spec:
  clusters:
    - {name: hub, role: hub, embedded: {}}
    - {name: east, labels: {region: east}, embedded: {nodes: 5, podRuntime: 2s}}
  controllers:
    - {use: m}
    - {use: n, resync: 1h, clusters: {region: [east, west]}}
"""


def test_equivalent_files_have_one_generation() -> None:
    doc = parse_fleet(BASE)
    spelled = parse_fleet(BASE.replace("podRuntime: 2s", "podRuntime: 2000ms") + "  shards: {standby: 1}\n")
    assert generation(doc) == generation(spelled)
    assert len(generation(doc)) == 12
    assert diff(doc, spelled) == []


def test_any_difference_changes_the_generation() -> None:
    assert generation(parse_fleet(BASE)) != generation(parse_fleet(BASE.replace("nodes: 5", "nodes: 6")))


def test_the_canonical_form_round_trips() -> None:
    doc = parse_fleet(BASE)
    again = FleetDoc.from_canonical(doc.canonical())
    assert again == doc
    assert again.canonical() == doc.canonical()


@pytest.mark.parametrize("name", ["quickstart", "clusters", "single-cluster"])
def test_shipped_files(name: str) -> None:
    doc = load_fleet(ROOT / "configs" / f"{name}.yaml")
    assert FleetDoc.from_canonical(doc.canonical()) == doc


def test_from_canonical_ignores_unknown_fields() -> None:
    doc = parse_fleet(BASE)
    content = json.loads(doc.canonical())
    content["spec"]["fromTheFuture"] = 1
    content["spec"]["clusters"][0]["embedded"]["alsoNew"] = {}
    assert FleetDoc.from_canonical(json.dumps(content)) == doc


def test_the_difference_names_clusters_and_controllers() -> None:
    old = parse_fleet(BASE)
    new = parse_fleet(
        BASE.replace("nodes: 5", "nodes: 6").replace("resync: 1h", "resync: 2h").replace("- {use: m}", "- {use: p}")
        + "  leader: {permit: 8s}\n"
    )
    changes = {each.path: (each.old, each.new) for each in diff(old, new)}
    assert changes["spec.clusters[east].embedded.nodes"] == (5, 6)
    assert changes["spec.controllers[n].resync"] == (3600.0, 7200.0)
    assert changes["spec.leader.permit"] == (6.0, 8.0)
    assert changes["spec.controllers[m]"][1] is None
    assert changes["spec.controllers[p]"][0] is None
    assert {str(each)[0] for each in diff(old, new)} == {"+", "-", "~"}


def test_digests_of_the_parts_differ_where_the_difference_says() -> None:
    old = parts(parse_fleet(BASE))
    new = parts(parse_fleet(BASE.replace("nodes: 5", "nodes: 6").replace("{use: m}", "{use: k}") + "  shards: {standby: 2}\n"))
    assert {path for path in new if path not in old} == {"spec.controllers[k]"}
    assert {path for path in old if path not in new} == {"spec.controllers[m]"}
    assert {path for path in new if path in old and old[path] != new[path]} == {"spec.clusters[east]", "spec.shards"}
    assert parts(parse_fleet(BASE)) == old


def test_diff_ignores_the_order_of_clusters() -> None:
    lines = BASE.splitlines()
    lines[6], lines[7] = lines[7], lines[6]
    assert diff(parse_fleet(BASE), parse_fleet("\n".join(lines))) == []


def test_clusters_resync_and_timeouts_of_a_controller() -> None:
    doc = parse_fleet(BASE)
    everywhere, east = doc.spec.controllers
    assert [each.name for each in doc.clusters_of(everywhere, "members")] == ["east"]
    assert [each.name for each in doc.clusters_of(everywhere, "hub")] == ["hub"]
    assert [each.name for each in doc.clusters_of(east, "members")] == ["east"]
    assert doc.clusters_of(east, "hub") == []
    assert doc.resync(everywhere) == 36000
    assert doc.resync(everywhere, 60) == 60
    assert doc.resync(east, 60) == 3600
    assert doc.spread(everywhere) == 60
    assert doc.spread(everywhere, 15) == 13.5
    assert doc.spread(everywhere, 0) == 60
    assert doc.reconcile_timeout(east) == 60
    assert doc.reconcile_timeout(east, 5) == 5


def test_a_pools_default_max_is_at_least_its_min() -> None:
    doc = parse_fleet(BASE + "  tiers: {critical: {workers: {min: 2}}, standard: {workers: {min: 6}}}\n")
    assert doc.spec.tiers.critical.workers.max == 2
    assert doc.spec.tiers.standard.workers.max == 6
    assert parse_fleet(BASE).spec.tiers.standard.workers.max == 4


def test_models_can_be_constructed_in_python() -> None:
    assert EmbeddedSpec(nodes=3, pod_runtime=1.5).pod_runtime == 1.5
    with pytest.raises((UnitError, ValueError)):
        EmbeddedSpec(pod_runtime=-1.0)


def test_the_json_schema_is_valid_and_accepts_the_shipped_configs() -> None:
    import jsonschema
    import yaml

    schema = fleet_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for file in (ROOT / "configs").glob("*.yaml"):
        content = yaml.safe_load(file.read_text())
        if content.get("kind") == "Fleet":
            assert not list(validator.iter_errors(content)), file
    assert list(validator.iter_errors({"kind": "Fleet", "spec": {"cluster": []}}))


def test_each_field_is_documented() -> None:
    silent = [row.path for row in rows() if not row.meaning]
    assert not silent, f"no docstring: {silent}"


def test_the_field_table_in_the_documentation_is_up_to_date() -> None:
    text = (ROOT / "docs/fleet-yaml.md").read_text()
    shown = text.partition("<!-- fields: begin -->\n")[2].partition("\n<!-- fields: end -->")[0]
    assert shown == markdown(), "regenerate it with raycp schema --fields, between the two marks of docs/fleet-yaml.md"


def test_all_public_names_of_the_package_are_importable() -> None:
    import raycp.config

    assert sorted(raycp.config.__all__) == sorted(raycp.config.HOMES)
    for name in raycp.config.__all__:
        assert getattr(raycp.config, name) is not None
