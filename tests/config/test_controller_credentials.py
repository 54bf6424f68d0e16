"""``spec.controllers[].credentials``: validated, made absolute, and compared like the rest of a fleet file."""

from pathlib import Path

import pytest

from raycp.config import ConfigError, diff, load_fleet, parse_fleet

FLEET = """apiVersion: raycp.io/v1alpha1
kind: Fleet
metadata: {name: x}
spec:
  clusters: [{name: hub, role: hub, embedded: {}}, {name: west-1, embedded: {}}]
  controllers:
    - use: m
      credentials:
        west-1: {path: own/author.yaml, context: a}
"""
KUBECONFIG = """
clusters: [{name: c, cluster: {server: https://c}}]
contexts: [{name: b, context: {cluster: c}}]
"""


@pytest.mark.parametrize(
    ("there", "here", "message"),
    [
        ("west-1:", "wset-1:", "credentials.wset-1 is not a cluster of the fleet; did you mean 'west-1'?"),
        ("west-1:", "far:", "credentials.far is not a cluster of the fleet; its clusters are: hub, west-1"),
        ("{path: own/author.yaml, context: a}", "{token: t}", "the fleet file holds no credentials"),
        ("{path: own/author.yaml, context: a}", "{path: ''}", "credentials.west-1.path"),
        ("{path: own/author.yaml, context: a}", "", "credentials.west-1"),
    ],
)
def test_what_is_wrong_with_them_is_said_at_their_place(there: str, here: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_fleet(FLEET.replace(there, here), Path("f.yaml"))
    assert message in str(caught.value)
    assert "spec.controllers[0]." in str(caught.value)


def test_their_files_are_relative_to_the_fleet_file_and_have_to_be_there(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(FLEET)
    doc = load_fleet(file)
    assert doc.spec.controllers[0].credentials["west-1"].path == str(tmp_path / "own/author.yaml")
    with pytest.raises(ConfigError, match=r"f.yaml:9: spec\.controllers\[0\]\.credentials\.west-1\.path: .*does not exist"):
        load_fleet(file, check_files=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/author.yaml").write_text(KUBECONFIG)
    with pytest.raises(ConfigError, match=r"credentials\.west-1\.context: \"a\" cannot be used: context 'a' is not in"):
        load_fleet(file, check_files=True)
    (tmp_path / "own/author.yaml").write_text(KUBECONFIG.replace("name: b", "name: a"))
    load_fleet(file, check_files=True)


def test_a_change_of_them_is_a_change_of_the_fleet() -> None:
    before, after = parse_fleet(FLEET), parse_fleet(FLEET.replace("context: a", "context: b"))
    assert [change.path for change in diff(before, after)] == ["spec.controllers[m].credentials.west-1.context"]
