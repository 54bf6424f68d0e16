"""Every problem of a fleet file is reported with file, line, path, value and remedy."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raycp.config import ConfigError, FleetDoc, Problem, load_fleet, parse_fleet

HEAD = "apiVersion: raycp.io/v1alpha1\nkind: Fleet\nmetadata: {name: x}\nspec:\n"
ONE = "  clusters: [{name: a, embedded: {}}]\n"
RUNS = "  controllers: [{use: m}]\n"


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse_fleet(text, Path("f.yaml"))
    assert str(caught.value)
    return caught.value.problems


def only(text: str) -> Problem:
    found = problems(text)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def test_a_small_file_is_enough() -> None:
    doc = parse_fleet(HEAD + ONE + RUNS)
    assert doc.hub.name == "a"
    assert [each.name for each in doc.members] == ["a"]
    assert doc.ray_namespace == "raycp-x"


def test_a_text_with_a_nul_is_refused_wherever_it_stands() -> None:
    for spec in (
        ONE + RUNS + '  observer: {host: "a\\0b"}\n',
        '  clusters: [{name: a, embedded: {dataDir: "a\\0b"}}]\n' + RUNS,
        ONE + '  controllers: [{use: m, config: {text: "a\\x00b"}}]\n',
    ):
        found = only(HEAD + spec)
        assert found.message == "has a NUL character"
        assert found.path.startswith("spec.")
        assert found.line > 4


FIELDS = [
    # spec, path, part of the message, part of the remedy
    (ONE + RUNS + "  worker: {}\n", "spec.worker", "not a known key", "'workers'"),
    (ONE + RUNS + "  permit: 6s\n", "spec.permit", "not a known key", "spec.leader"),
    (
        "  clusters: [{name: a, embedded: {podRuntim: 2s}}]\n" + RUNS,
        "spec.clusters[0].embedded.podRuntim",
        "known",
        "podRuntime",
    ),
    ("  clusters: [{name: a, in_cluster: true}]\n" + RUNS, "spec.clusters[0].in_cluster", "known", "inCluster"),
    (
        "  clusters: [{name: a, embedded: {}, token: t0psecret}]\n" + RUNS,
        "spec.clusters[0].token",
        "known",
        "kubeconfig",
    ),
    ("  clusters: [{name: A_1, embedded: {}}]\n" + RUNS, "spec.clusters[0].name", "not a name", "lower case"),
    ("  clusters: [{name: a, embedded: {}, role: hubb}]\n" + RUNS, "spec.clusters[0].role", "not one of", "'hub'"),
    (
        "  clusters: [{name: a, embedded: {}, labels: {r: 1}}]\n" + RUNS,
        "spec.clusters[0].labels.r",
        "whole number",
        '"1"',
    ),
    (
        "  clusters: [{name: a, embedded: {}, labels: {r: a b}}]\n" + RUNS,
        "spec.clusters[0].labels",
        "label value",
        "63",
    ),
    ("  clusters: [{name: a, embedded: {}, qps: fast}]\n" + RUNS, "spec.clusters[0].qps", "is text", "Requests"),
    ("  clusters: [{name: a, embedded: {}, qps: -1}]\n" + RUNS, "spec.clusters[0].qps", "greater than 0", ""),
    ("  clusters: []\n" + RUNS, "spec.clusters", "is empty", ""),
    (RUNS, "spec.clusters", "is missing", "hub"),
    (ONE, "spec.controllers", "is missing", "reconciles"),
    (ONE + "  controllers: [{use: a b}]\n", "spec.controllers[0].use", "not written as it must", "module"),
    (ONE + "  controllers: [{use: m, resync: -1h}]\n", "spec.controllers[0].resync", "negative", "30s"),
    (ONE + "  controllers: [{use: m, resync: .nan}]\n", "spec.controllers[0].resync", "not a number", "30s"),
    (
        ONE + "  controllers: [{use: m, resync: 30}]\n  shards: {standby: 1.5}\n",
        "spec.shards.standby",
        "is a number",
        "",
    ),
    (ONE + RUNS + "  tiers: {critcal: {share: 40%}}\n", "spec.tiers.critcal", "not a known key", "'critical'"),
    (ONE + RUNS + "  tiers: {high: {share: 140%}}\n", "spec.tiers.high.share", "outside", "40%"),
    (ONE + RUNS + "  tiers: {rules: [{tier: urgent}]}\n", "spec.tiers.rules[0].tier", "not one of", ""),
    (ONE + RUNS + "  slo: [{controller: m, objective: 99%}]\n", "spec.slo[0].within", "is missing", "threshold"),
    (
        ONE + RUNS + "  slo: [{controller: m, objective: 99%, within: 0s}]\n",
        "spec.slo[0].within",
        "longer than zero",
        "",
    ),
    (ONE + RUNS + "  ray: {env: {DB_PASSWORD: t0psecret}}\n", "spec.ray.env", "looks like a secret", "file"),
    (ONE + RUNS + "  observer: {port: 70000}\n", "spec.observer.port", "less than or equal to 65535", ""),
    (ONE + RUNS + "  leader: \n", "spec.leader", "is nothing", "{}"),
]


@pytest.mark.parametrize(("spec", "path", "message", "remedy"), FIELDS, ids=[each[1] for each in FIELDS])
def test_fields(spec: str, path: str, message: str, remedy: str) -> None:
    problem = only(HEAD + spec)
    assert problem.path == path
    assert message in problem.message
    assert remedy in problem.remedy
    assert problem.line > 3
    assert str(problem).startswith(f"f.yaml:{problem.line}: {path}")
    assert "t0psecret" not in str(problem)


TWO = "  clusters: [{name: a, role: hub, embedded: {}}, {name: b, labels: {region: east}, %s}]\n"
CROSS = [
    (ONE + RUNS + "  paused: {clusters: [b]}\n", "spec.paused.clusters[0]", "is no cluster of this fleet"),
    (ONE + RUNS + "  paused: {clusters: [a, a]}\n", "spec.paused.clusters[1]", "is named twice"),
    (
        ONE + "  controllers: [{use: m, name: echo}]\n  paused: {controllers: [ecko]}\n",
        "spec.paused.controllers[0]",
        "is no controller of this fleet",
    ),
    (
        "  clusters: [{name: a, role: hub, embedded: {}}, {name: a, embedded: {}}]\n" + RUNS,
        "spec.clusters[1].name",
        "also the name",
    ),
    ("  clusters: [{name: a, embedded: {}}, {name: b, embedded: {}}]\n" + RUNS, "spec.clusters", "no hub"),
    (TWO % "role: hub, embedded: {}" + RUNS, "spec.clusters[1].role", "second hub"),
    (TWO % "qps: 5" + RUNS, "spec.clusters[1]", "does not say how"),
    (TWO % "embedded: {}, inCluster: true" + RUNS, "spec.clusters[1]", "has both"),
    (TWO % "embedded: {}, insecureSkipTlsVerify: true" + RUNS, "spec.clusters[1].insecureSkipTlsVerify", "no meaning"),
    (
        TWO % "embedded: {}, requestTimeout: 6s" + RUNS,
        "spec.clusters[1].requestTimeout",
        "not shorter than leader.permit",
    ),
    (TWO % "embedded: {}, burst: 5" + RUNS, "spec.clusters[1].burst", "without qps"),
    (ONE + "  controllers: [{use: m}, {use: m}]\n", "spec.controllers[1].use", "the same as"),
    (
        ONE + "  controllers: [{use: m, clusters: {region: west}}]\n",
        "spec.controllers[0].clusters",
        "matches no cluster",
    ),
    (ONE + RUNS + "  tiers: {critical: {share: 70%}}\n", "spec.tiers", "shares of 130%"),
    (ONE + RUNS + "  tiers: {background: {share: 0%}}\n", "spec.tiers.background.share", "starve"),
    (ONE + RUNS + "  tiers: {high: {workers: {min: 2, max: 1}}}\n", "spec.tiers.high.workers.max", "less than"),
    (ONE + RUNS + "  tiers: {standard: {workers: {min: 0, max: 0}}}\n", "spec.tiers", "without a worker"),
    (
        ONE + RUNS + "  tiers: {rules: [{tier: high}, {when: {namespace: a}, tier: high}]}\n",
        "spec.tiers.rules[1]",
        "never reached",
    ),
    (
        ONE + RUNS + "  tiers: {rules: [{when: {namespace: A}, tier: high}]}\n",
        "spec.tiers.rules[0].when.namespace[0]",
        "can't match",
    ),
    (
        ONE + RUNS + "  tiers: {rules: [{when: {label: {a: []}}, tier: high}]}\n",
        "spec.tiers.rules[0].when.label.a",
        "can't match",
    ),
    (
        ONE + RUNS + "  tiers: {rules: [{when: {label: {a: b c}}, tier: high}]}\n",
        "spec.tiers.rules[0].when.label.a",
        "can't match",
    ),
    (
        ONE + RUNS + "  tiers: {rules: [{when: {cluster: {z: y}}, tier: high}]}\n",
        "spec.tiers.rules[0].when.cluster",
        "matches no",
    ),
    (ONE + RUNS + "  tiers: {rules: [{when: {namespace: a}}]}\n", "spec.tiers.rules[0]", "neither"),
    (ONE + RUNS + "  tiers: {rules: [{tierFrom: {}}]}\n", "spec.tiers.rules[0].tierFrom", "exactly one"),
    (
        ONE + RUNS + "  slo: [{controller: m, objective: 100%, within: 1s}]\n",
        "spec.slo[0].objective",
        "no error budget",
    ),
    (
        ONE + "  controllers: [{use: m, name: m}]\n  slo: [{controller: n, objective: 99%, within: 1s}]\n",
        "spec.slo[0].controller",
        "no controller",
    ),
    (ONE + RUNS + "  leader: {permit: 1s}\n", "spec.leader.permit", "shorter than 2s"),
    (ONE + RUNS + "  leader: {permit: 4s}\n", "spec.leader.permit", "not longer than the default requestTimeout"),
    (ONE + RUNS + "  leader: {lock: {ray: {}, lease: {}}}\n", "spec.leader.lock", "ray and lease"),
    (ONE + RUNS + "  leader: {backoff: {min: 5s}}\n", "spec.leader.backoff.max", "shorter"),
    (ONE + RUNS + "  leader: {lock: {lease: {renew: 5s}}}\n", "spec.leader.lock.lease.renew", "half of the lease's duration (6s)"),
    (
        ONE + RUNS + "  leader: {lock: {lease: {renew: 4s, duration: 20s}}}\n",
        "spec.leader.lock.lease.renew",
        "half of leader.permit (6s)",
    ),
]


@pytest.mark.parametrize(("spec", "path", "message"), CROSS, ids=[f"{each[1]} {each[2]}" for each in CROSS])
def test_rules_that_span_fields(spec: str, path: str, message: str) -> None:
    problem = only(HEAD + spec)
    assert problem.path == path
    assert message in problem.message
    assert problem.remedy


def test_the_same_cluster_twice() -> None:
    spec = "  clusters: [{name: a, role: hub, kubeconfig: {path: /k}}, {name: b, kubeconfig: {path: /k}}]\n"
    assert "same as that of a" in only(HEAD + spec + RUNS).message


def test_all_problems_are_reported_at_once() -> None:
    assert len(problems(HEAD + "  clusters: [{nam: a, embedded: {}}]\n  controllers: [{uses: m}]\n  slow: []\n")) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("a: [", "is not YAML"),
        ("a:\n\t- b", "is not YAML"),
        ("- a\n", "not a mapping"),
        ("kind: Pod\n", "is not Fleet"),
        ("kind: Fleet\napiVersion: v1\n", "is not raycp.io"),
        (HEAD + ONE + RUNS + "---\n" + HEAD, "more than one document"),
        (HEAD + ONE + ONE + RUNS, "is a duplicate key"),
        ("a: &a [*a]", "holds itself"),
        ("a: !!python/object:os.system {}\n", "has the tag"),
        ("? [a]\n: b\n", "not text"),
    ],
)
def test_texts_that_are_no_fleet_file(text: str, message: str) -> None:
    assert message in str(only(text))


def test_aliases_do_not_explode() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "too many values" in str(only("\n".join(lines)))


def test_anchors_and_merge_keys_work() -> None:
    text = HEAD + "  clusters:\n    - &one {name: a, role: hub, embedded: {}}\n    - {<<: *one, name: b, role: member}\n" + RUNS
    assert [each.name for each in parse_fleet(text).spec.clusters] == ["a", "b"]


def test_no_is_text_and_quoted_numbers_are_text() -> None:
    doc = parse_fleet(HEAD + '  clusters: [{name: a, embedded: {}, labels: {country: no, rack: "7"}}]\n' + RUNS)
    assert doc.hub.labels == {"country": "no", "rack": "7"}


def test_files(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "no.yaml", "does not exist"), (tmp_path, "is a directory")):
        with pytest.raises(ConfigError, match=message):
            load_fleet(path)
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        load_fleet(tmp_path / "bin.yaml")


def test_kubeconfig_files_and_contexts(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(HEAD + "  clusters: [{name: a, kubeconfig: {path: sub/k.yaml, context: west}}]\n" + RUNS)
    doc = load_fleet(file)
    assert doc.hub.kubeconfig is not None
    assert doc.hub.kubeconfig.path == str(tmp_path / "sub/k.yaml")
    with pytest.raises(ConfigError, match=r"spec\.clusters\[0\]\.kubeconfig\.path.*does not exist"):
        load_fleet(file, check_files=True)
    (tmp_path / "sub").mkdir()
    clusters = "clusters: [{name: c, cluster: {server: https://c}}]\n"
    (tmp_path / "sub/k.yaml").write_text(clusters + "contexts: [{name: wets, context: {cluster: c}}]\n")
    with pytest.raises(ConfigError, match="did you mean 'wets'"):
        load_fleet(file, check_files=True)
    (tmp_path / "sub/k.yaml").write_text(clusters + "contexts: [{name: west, context: {cluster: c}}]\n")
    load_fleet(file, check_files=True)
    (tmp_path / "sub/k.yaml").write_text("hello\n")
    with pytest.raises(ConfigError, match="is not a mapping; name a kubeconfig file"):
        load_fleet(file, check_files=True)


def test_a_list_of_kubeconfig_files_is_merged_and_each_is_relative_to_the_fleet_file(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(HEAD + "  clusters: [{name: a, kubeconfig: {path: 'a.yaml:sub/b.yaml:~/c'}}]\n" + RUNS)
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("contexts: [{name: west, context: {cluster: c}}]\ncurrent-context: west\n")
    (tmp_path / "sub/b.yaml").write_text("clusters: [{name: c, cluster: {server: https://c}}]\n")
    doc = load_fleet(file, check_files=True)
    assert doc.hub.kubeconfig is not None
    assert doc.hub.kubeconfig.path == f"{tmp_path}/a.yaml:{tmp_path}/sub/b.yaml:~/c"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FleetDoc.model_fields, "spec", "clusters", "name", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(JSON, st.sampled_from(["clusters", "controllers", "tiers", "slo", "leader", "ray", "shards", "workers", "observer"]))
def test_no_content_ends_in_a_traceback(content: object, section: str) -> None:
    spec = {"clusters": [{"name": "a", "embedded": {}}], "controllers": [{"use": "m"}], section: content}
    doc = {"apiVersion": "raycp.io/v1alpha1", "kind": "Fleet", "metadata": {"name": "x"}, "spec": spec}
    with contextlib.suppress(ConfigError):
        parse_fleet(json.dumps(doc))


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60))
def test_no_text_ends_in_a_traceback(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_fleet(text)
