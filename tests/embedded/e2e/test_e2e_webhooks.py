"""Kubernetes' e2e specs of admission webhooks, with the backend at a URL: here is no network that a Service could lead to."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from e2e_typed import BOTH, PROTOBUF, Object, Refused, TypedClient, until
from e2e_webhook_backend import MARK, WebhookBackend

from raycp.config.embedded import EmbeddedSpec
from raycp.testkit.clusters import EmbeddedHandle, EmbeddedHost

GROUP = "/apis/admissionregistration.k8s.io/v1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = ("Validating", "Mutating")
LATENCY = 1.5
"""Seconds of the slow backend: more than the least timeout that a webhook can have."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedHost]:
    made = EmbeddedHost(tmp_path_factory.mktemp("clusters"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def e2e_cluster(host: EmbeddedHost) -> EmbeddedHandle:
    return host.start("e2e", EmbeddedSpec(nodes=3))


@pytest.fixture(scope="module")
def backend(host: EmbeddedHost, e2e_cluster: EmbeddedHandle) -> Iterator[WebhookBackend]:
    made = WebhookBackend(LATENCY)
    host.run(made.start())
    yield made
    host.run(made.stop())


class Spec:
    """One spec's namespaces, and the webhooks that hold in these alone."""

    _numbers = itertools.count(1)

    def __init__(self, typed: TypedClient, backend: WebhookBackend) -> None:
        self.typed = typed
        self.backend = backend
        self.name = f"webhook-{next(self._numbers)}"
        self.made = itertools.count(1)
        self.own = self.namespace(self.name)
        markers = {f"{self.name}-markers": "true", self.name: "false"}  # of no other webhook
        self._markers = self.namespace(f"{self.name}-markers", **markers)

    def namespace(self, name: str, **labels: str) -> str:
        metadata = {"name": name, "labels": {self.name: "true", **labels}}
        self.typed.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        until(lambda: self.typed.get(f"/api/v1/namespaces/{name}/serviceaccounts")["items"], "no default ServiceAccount")
        return name

    def config_maps(self, namespace: str = "") -> str:
        return f"/api/v1/namespaces/{namespace or self.own}/configmaps"

    def config_map(self, data: dict[str, str], name: str = "", namespace: str = "") -> Object:
        """Create a ConfigMap. Raises ``Refused``."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name or f"map-{next(self.made)}"}, "data": data}
        return self.typed.create(self.config_maps(namespace), obj)

    def hook(self, name: str, path: str, resource: str = "configmaps", operations: str = "CREATE", **more: Any) -> Object:
        group, _, plural = resource.rpartition("/")
        rule = {"operations": operations.split(","), "apiGroups": [group], "apiVersions": ["*"], "resources": [plural]}
        return {
            "name": name,
            "rules": [rule],
            "clientConfig": self.backend.client_config(path),
            "sideEffects": "None",
            "admissionReviewVersions": ["v1", "v1beta1"],
            "namespaceSelector": {"matchLabels": {self.name: "true"}},
            **more,
        }

    def _marker(self) -> Object:
        selector = {"matchLabels": {f"{self.name}-markers": "true"}}
        return self.hook("is-ready.k8s.io", "/always-deny", namespaceSelector=selector, failurePolicy="Ignore")

    def configuration(self, kind: str, *hooks: Object, name: str = "", **labels: str) -> Object:
        metadata = {"name": name or self.name, "labels": labels}
        kind = f"{kind}WebhookConfiguration"
        return {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": metadata, "webhooks": [*hooks]}

    def register(self, kind: str, *hooks: Object, name: str = "", **labels: str) -> Object:
        """Create a configuration, with the webhook that shows when it is in force."""
        return self.typed.create(collection(kind), self.configuration(kind, *hooks, self._marker(), name=name, **labels))

    def wait_ready(self) -> None:
        until(lambda: refused_with(lambda: self.config_map({}, namespace=self._markers), "denied"), "no webhook is called")

    @contextlib.contextmanager
    def registered(self, kind: str, *hooks: Object, name: str = "") -> Iterator[Object]:
        made = self.register(kind, *hooks, name=name)
        try:
            self.wait_ready()
            yield made
        finally:
            self.typed.delete(f"{collection(kind)}/{made['metadata']['name']}")


@pytest.fixture
def spec(typed: TypedClient, backend: WebhookBackend) -> Spec:
    return Spec(typed, backend)


def collection(kind: str) -> str:
    return f"{GROUP}/{kind.lower()}webhookconfigurations"


def refused_with(attempt: Any, words: str) -> bool:
    """Whether it is refused. Asserts that the refusal has the words."""
    try:
        attempt()
    except Refused as refused:
        told = str(refused)
    else:
        return False
    assert words in told
    return True


BAD = {MARK: "webhook-disallow"}
START = {"mutation-start": "yes"}


def test_should_include_webhook_resources_in_discovery_documents(typed: TypedClient) -> None:
    groups = {each["name"]: each for each in typed.get("/apis")["groups"]}
    assert "v1" in {each["version"] for each in groups["admissionregistration.k8s.io"]["versions"]}
    group = typed.get("/apis/admissionregistration.k8s.io")
    assert group["name"] == "admissionregistration.k8s.io"
    assert "v1" in {each["version"] for each in group["versions"]}
    resources = typed.get(GROUP)
    assert resources["groupVersion"] == "admissionregistration.k8s.io/v1"
    names = {each["name"] for each in resources["resources"]}
    assert {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"} <= names


def pod(name: str, container: str, **labels: str) -> Object:
    made: Object = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}
    made["spec"] = {"containers": [{"name": container, "image": "pause"}]}
    return made


def unreachable(spec: Spec, name: str, policy: str, **more: Any) -> Object:
    service = {"namespace": spec.own, "name": "e2e-test-webhook", "path": "/configmaps", "port": 8443}
    return spec.hook(name, "", clientConfig={"service": service}, failurePolicy=policy, **more)


def test_should_be_able_to_deny_pod_and_configmap_creation(spec: Spec) -> None:
    """The Pod that hangs the webhook waits for a timeout of a second, not the default of ten."""
    exempt = {"key": "skip-webhook-admission", "operator": "NotIn", "values": ["yes"]}
    selector = {"matchLabels": {spec.name: "true"}, "matchExpressions": [exempt]}
    hooks = [
        spec.hook("deny-pods.k8s.io", "/pods", "pods", timeoutSeconds=1),
        spec.hook("deny-maps.k8s.io", "/configmaps", operations="CREATE,UPDATE,DELETE", namespaceSelector=selector),
        unreachable(spec, "fail-open.k8s.io", "Ignore"),
    ]
    pods, typed = f"/api/v1/namespaces/{spec.own}/pods", spec.typed
    unwanted = "the configmap contains unwanted key and value"
    with spec.registered("Validating", *hooks):
        with pytest.raises(Refused) as denied:
            typed.create(pods, pod("disallowed-pod", "webhook-disallow", **BAD))
        assert "the pod contains unwanted container name" in str(denied.value)
        assert "the pod contains unwanted label" in str(denied.value)
        with pytest.raises(Refused) as hung:
            typed.create(pods, pod("hanging-pod", "wait-forever", **{MARK: "wait-forever"}))
        assert "webhook" in str(hung.value)
        assert "deadline" in str(hung.value)
        with pytest.raises(Refused) as missing:
            typed.get(f"{pods}/hanging-pod")
        assert missing.value.reason == "NotFound"
        assert refused_with(lambda: spec.config_map(BAD), unwanted)
        made = spec.config_map({"admit": "this"}, "allowed")
        made |= {"apiVersion": "v1", "kind": "ConfigMap"}
        made["data"] |= BAD
        assert refused_with(lambda: typed.update(spec.config_maps(), made), unwanted)
        patch = {"data": BAD}
        assert refused_with(lambda: typed.patch(f"{spec.config_maps()}/allowed", "strategic", patch), unwanted)
        skipped = spec.namespace(f"{spec.name}-exempt", **{"skip-webhook-admission": "yes"})
        spec.config_map(BAD, namespace=skipped)


def test_should_unconditionally_reject_operations_on_fail_closed_webhook(spec: Spec) -> None:
    wanted = {"key": "fail-closed-webhook", "operator": "In", "values": ["yes"]}
    selector = {"matchLabels": {spec.name: "true"}, "matchExpressions": [wanted]}
    with spec.registered("Validating", unreachable(spec, "fail-closed.k8s.io", "Fail", namespaceSelector=selector)):
        closed = spec.namespace(f"{spec.name}-closed", **{"fail-closed-webhook": "yes"})
        with pytest.raises(Refused) as refused:
            spec.config_map({}, "foo", closed)
    assert (refused.value.code, refused.value.reason) == (500, "InternalError")


def mutating_hooks(spec: Spec, stages: int, **more: Any) -> list[Object]:
    return [spec.hook(f"adding-data-stage-{stage}.k8s.io", "/mutating-configmaps", **more) for stage in range(1, stages + 1)]


def test_should_mutate_configmap(spec: Spec) -> None:
    with spec.registered("Mutating", *mutating_hooks(spec, 2)):
        assert spec.config_map(START)["data"] == {**START, "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


def test_should_mutate_pod_and_apply_defaults_after_mutation(spec: Spec) -> None:
    with spec.registered("Mutating", spec.hook("adding-init-container.k8s.io", "/mutating-pods", "pods")):
        made = spec.typed.create(f"/api/v1/namespaces/{spec.own}/pods", pod("webhook-to-be-mutated", "example"))
    (added,) = made["spec"]["initContainers"]
    assert (added["name"], added["terminationMessagePolicy"]) == ("webhook-added-init-container", "File")


def test_should_not_be_able_to_mutate_or_prevent_deletion_of_webhook_configuration_objects(spec: Spec) -> None:
    """The webhooks have no namespace selector here, which on a real cluster would keep others from working."""
    everything = {"namespaceSelector": {}, "failurePolicy": "Fail"}
    resource = "admissionregistration.k8s.io/*"
    deny = spec.hook("deny-deletions.k8s.io", "/always-deny", resource, "DELETE", **everything)
    label = spec.hook("add-label.k8s.io", "/add-label", resource, **everything)
    with spec.registered("Validating", deny, name=f"{spec.name}-a"), spec.registered("Mutating", label, name=f"{spec.name}-b"):
        for kind in KINDS:
            dummy = unreachable(spec, "dummy.k8s.io", "Ignore")
            dummy["rules"][0]["resources"] = ["invalid"]
            made = spec.register(kind, dummy)
            assert "added-label" not in (made["metadata"].get("labels") or {})
            spec.wait_ready()
            spec.typed.delete(f"{collection(kind)}/{spec.name}")


# ---- custom resources

OPEN: Object = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def custom(spec: Spec, *versions: str, schema: Object = OPEN, **labels: str) -> Object:
    """A CRD; the first version is stored."""
    plural = f"{spec.name}-things"
    names = {"plural": plural, "singular": plural[:-1], "kind": f"Thing-{spec.name}", "listKind": f"Thing-{spec.name}List"}
    served = [
        {"name": each, "served": True, "storage": each == versions[0], "schema": {"openAPIV3Schema": schema}} for each in versions
    ]
    metadata = {"name": f"{plural}.webhook.example.com", "labels": labels}
    crd: Object = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": metadata}
    crd["spec"] = {"group": "webhook.example.com", "scope": "Namespaced", "names": names, "versions": served}
    return crd


@contextlib.contextmanager
def established(spec: Spec, crd: Object) -> Iterator[str]:
    """The collection of a CRD's first version."""
    own = f"{CRDS}/{crd['metadata']['name']}"
    spec.typed.create(CRDS, crd)
    until(
        lambda: [each for each in spec.typed.get(own)["status"].get("conditions", ()) if each["type"] == "Established"],
        "the CRD is not established",
    )
    version = crd["spec"]["versions"][0]["name"]
    yield f"/apis/webhook.example.com/{version}/namespaces/{spec.own}/{crd['spec']['names']['plural']}"
    spec.typed.delete(own)


def thing(crd: Object, name: str, data: Object) -> Object:
    kind, version = crd["spec"]["names"]["kind"], crd["spec"]["versions"][0]["name"]
    return {"apiVersion": f"webhook.example.com/{version}", "kind": kind, "metadata": {"name": name}, "data": data}


def resource(crd: Object) -> str:
    return f"webhook.example.com/{crd['spec']['names']['plural']}"


def test_should_be_able_to_deny_custom_resource_creation_update_and_deletion(spec: Spec, dynamic: TypedClient) -> None:
    crd = custom(spec, "v1")
    hook = spec.hook("deny-custom-resource-data.k8s.io", "/custom-resource", resource(crd), "CREATE,UPDATE,DELETE")
    unwanted = "the custom resource contains unwanted data"
    with established(spec, crd) as path, spec.registered("Validating", hook):
        assert refused_with(lambda: dynamic.create(path, thing(crd, "one", BAD)), unwanted)
        made = dynamic.create(path, thing(crd, "two", {MARK: "webhook-nondeletable"}))
        assert refused_with(lambda: dynamic.update(path, {**made, "data": BAD}), unwanted)
        kept = "the custom resource cannot be deleted because it contains unwanted key and value"
        assert refused_with(lambda: dynamic.delete(f"{path}/two"), kept)
        dynamic.update(path, {**dynamic.get(f"{path}/two"), "data": {MARK: "webhook-allow"}})
        dynamic.delete(f"{path}/two")


def mutating_custom(spec: Spec, crd: Object) -> list[Object]:
    path, plural = "/mutating-custom-resource", resource(crd)
    return [
        spec.hook("mutate-stage-1.k8s.io", path, plural, "CREATE,UPDATE"),
        spec.hook("mutate-stage-2.k8s.io", path, plural, "CREATE"),
    ]


PRUNED: Object = {
    "type": "object",
    "properties": {
        "data": {"type": "object", "properties": {"mutation-start": {"type": "string"}, "mutation-stage-1": {"type": "string"}}}
    },
}


@pytest.mark.parametrize("schema", [OPEN, PRUNED], ids=["should mutate custom resource", "should mutate it with pruning"])
def test_should_mutate_custom_resource(spec: Spec, dynamic: TypedClient, schema: Object) -> None:
    crd = custom(spec, "v1", "v2", schema=schema)
    with established(spec, crd) as path, spec.registered("Mutating", *mutating_custom(spec, crd)):
        data = dynamic.create(path, thing(crd, "one", START))["data"]
    assert data == {**START, "mutation-stage-1": "yes"} | ({} if schema is PRUNED else {"mutation-stage-2": "yes"})


def test_should_mutate_custom_resource_with_different_stored_version(spec: Spec, dynamic: TypedClient) -> None:
    crd = custom(spec, "v1", "v2")
    with established(spec, crd) as path, spec.registered("Mutating", *mutating_custom(spec, crd)):
        dynamic.create(path, thing(crd, "one", START))
        versions = [{**each, "storage": each["name"] == "v2"} for each in crd["spec"]["versions"]]
        spec.typed.patch(f"{CRDS}/{crd['metadata']['name']}", "strategic", {"spec": {"versions": versions}})
        newer = path.replace("/v1/", "/v2/")
        found = dynamic.patch(f"{newer}/one", "json", [{"op": "add", "path": "/dummy", "value": "test"}])
    assert found["data"] == {**START, "mutation-stage-1": "yes", "mutation-stage-2": "yes"}
    assert found["dummy"] == "test"


def test_should_deny_crd_creation(spec: Spec) -> None:
    selector = {"matchLabels": {spec.name: "true"}}
    plural = "apiextensions.k8s.io/customresourcedefinitions"
    hook = spec.hook("deny-crd.k8s.io", "/crd", plural, objectSelector=selector, namespaceSelector={})
    with spec.registered("Validating", hook):
        crd = custom(spec, "v1", **{spec.name: "true"}, **BAD)
        assert refused_with(lambda: spec.typed.create(CRDS, crd), "the crd contains unwanted label")


def test_should_honor_timeout(spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend takes 1.5 seconds where it is to be too slow and 0.2 where not; the spec's takes 5."""

    def slow(**more: Any) -> Object:
        return spec.hook("allow-with-delay.k8s.io", "/delayed", **more)

    with spec.registered("Validating", slow(failurePolicy="Fail", timeoutSeconds=1)), pytest.raises(Refused) as refused:
        spec.config_map({})
    assert "context deadline exceeded" in str(refused.value)
    assert "/delayed?timeout=1s" in str(refused.value)
    for latency, more in ((LATENCY, {"failurePolicy": "Ignore", "timeoutSeconds": 1}), (0.2, {"timeoutSeconds": 10}), (0.2, {})):
        monkeypatch.setattr(spec.backend, "latency", latency)
        with spec.registered("Validating", slow(**{"failurePolicy": "Fail", **more})):
            spec.typed.delete(f"{spec.config_maps()}/{spec.config_map({})['metadata']['name']}")


# ---- operations of configurations


def config_hook(spec: Spec, kind: str) -> Object:
    if kind == "Mutating":
        return mutating_hooks(spec, 1)[0]
    return spec.hook("deny-maps.k8s.io", "/configmaps", operations="CREATE,UPDATE,DELETE")


def acts(spec: Spec, kind: str) -> bool:
    """Whether the webhook is called: it denies, or adds to, a new ConfigMap."""
    if kind == "Validating":
        return refused_with(lambda: spec.config_map(BAD), "denied")
    return "mutation-stage-1" in spec.config_map(START)["data"]


@pytest.mark.parametrize("kind", KINDS)
def test_patching_updating_a_webhook_should_work(spec: Spec, kind: str) -> None:
    own, typed = f"{collection(kind)}/{spec.name}", spec.typed
    with spec.registered(kind, config_hook(spec, kind)):
        until(lambda: acts(spec, kind), "the webhook is not called")
        read = typed.get(own)
        read["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
        typed.update(collection(kind), read)
        until(lambda: not acts(spec, kind), "the webhook is called after its rules were changed")
        patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
        typed.patch(own, "json", patch)
        until(lambda: acts(spec, kind), "the webhook is not called after its rules were patched")


@pytest.mark.parametrize("kind", KINDS)
def test_listing_webhooks_should_work(spec: Spec, kind: str) -> None:
    for number in range(10):
        spec.register(kind, config_hook(spec, kind), name=f"{spec.name}-{number}", listed=spec.name)
    chosen = f"{collection(kind)}?labelSelector=listed%3D{spec.name}"
    for accept in (BOTH, PROTOBUF):
        assert len(spec.typed.get(chosen, accept)["items"]) == 10
    spec.wait_ready()
    until(lambda: acts(spec, kind), "no webhook is called")
    spec.typed.delete(chosen)
    until(lambda: not acts(spec, kind), "a webhook is called after all were deleted")


@pytest.mark.parametrize("kind", KINDS)
def test_should_be_able_to_create_and_update_webhook_configurations_with_match_conditions(spec: Spec, kind: str) -> None:
    first = {"name": "expression-1", "expression": "object.metadata.namespace == 'production'"}
    second = {"name": "expression-2", "expression": "object.metadata.namespace == 'staging'"}
    made = spec.register(kind, spec.hook("with-conditions.k8s.io", "/always-deny", matchConditions=[first]))
    own = f"{collection(kind)}/{made['metadata']['name']}"
    for accept in (PROTOBUF, BOTH):
        read = spec.typed.get(own, accept)
        assert read["webhooks"][0]["matchConditions"] == [first]
    read["webhooks"][0]["matchConditions"] = [first, second]
    spec.typed.update(collection(kind), read)
    for accept in (PROTOBUF, BOTH):
        assert spec.typed.get(own, accept)["webhooks"][0]["matchConditions"] == [first, second]
    spec.typed.delete(own)


@pytest.mark.parametrize("kind", KINDS)
def test_should_reject_webhook_configurations_with_invalid_match_conditions(spec: Spec, kind: str) -> None:
    bad = {"name": "invalid-expression-1", "expression": "... [] bad expression"}
    hook = spec.hook("with-conditions.k8s.io", "/always-deny", matchConditions=[bad])
    assert refused_with(lambda: spec.register(kind, hook), "compilation failed")


def test_should_mutate_everything_except_skip_me_configmaps(spec: Spec) -> None:
    skip = [{"name": "skip-me", "expression": "object.metadata.name != 'skip-me'"}]
    with spec.registered("Mutating", *mutating_hooks(spec, 1, matchConditions=skip)):
        assert spec.config_map(START)["data"] == {**START, "mutation-stage-1": "yes"}
        assert spec.config_map(START, "skip-me")["data"] == START
