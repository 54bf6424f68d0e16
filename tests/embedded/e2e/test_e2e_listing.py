"""Kubernetes' e2e specs of chunked lists, streamed lists, the generated clientset, the server's version and its certificate."""

import itertools
import random
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography import x509
from e2e_typed import BOTH, JSON, PROTOBUF, Object, Refused, TypedClient, until

from raycp.testkit.clusters import EmbeddedHandle

TEMPLATES = 400
META = "g=meta.k8s.io;v=v1"
STREAMED = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"


_numbers = itertools.count(1)


@pytest.fixture
def namespace(typed: TypedClient) -> str:
    made = typed.create(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"e2e-{next(_numbers)}"}}
    )
    name: str = made["metadata"]["name"]
    until(lambda: typed.get(f"/api/v1/namespaces/{name}/serviceaccounts")["items"], "no default ServiceAccount")
    return name


# ---- Servers with support for API chunking


@pytest.fixture(scope="module")
def templates(e2e_cluster: EmbeddedHandle, typed: TypedClient) -> str:
    """The collection of 400 PodTemplates, created by several clients at once."""
    typed.create("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "chunking"}})
    path = "/api/v1/namespaces/chunking/podtemplates"
    body: Object = {"apiVersion": "v1", "kind": "PodTemplate"}
    body["template"] = {"spec": {"containers": [{"name": "test", "image": "test2"}]}}

    def create(numbers: range) -> None:
        client = TypedClient(e2e_cluster)
        for number in numbers:
            client.create(path, {**body, "metadata": {"name": f"template-{number:04}"}})
        client.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, (range(first, TEMPLATES, 4) for first in range(4))))
    return path


def check_page(page: Object, limit: int, found: int) -> int:
    """Size, names and remaining count of a page after ``found`` items; how many have been found with it."""
    items, meta = page.get("items") or [], page["metadata"]
    assert len(items) <= limit
    assert [each["metadata"]["name"] for each in items] == [f"template-{n:04}" for n in range(found, found + len(items))]
    if meta.get("continue"):
        assert meta["remainingItemCount"] + len(items) + found == TEMPLATES
    else:
        assert "remainingItemCount" not in meta
    return found + len(items)


def read_pages(typed: TypedClient, path: str, accept: str, limits: Callable[[], int], token: str = "", found: int = 0) -> set[str]:
    """Read all pages from a token on; the resource versions that they have."""
    versions = set()
    while True:
        limit = limits()
        page = typed.get(f"{path}?limit={limit}" + (f"&continue={token}" if token else ""), accept)
        found = check_page(page, limit, found)
        versions.add(page["metadata"]["resourceVersion"])
        token = page["metadata"].get("continue", "")
        if not token:
            assert found == TEMPLATES
            return versions


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_return_chunks_of_results_for_list_calls(typed: TypedClient, templates: str, accept: str) -> None:
    drawn = random.Random(7)
    for limits in (lambda: 17, lambda: TEMPLATES // 10, lambda: drawn.randint(1, TEMPLATES // 10)):
        assert len(read_pages(typed, templates, accept, limits)) == 1
    assert len(typed.get(f"{templates}?limit={TEMPLATES + 1}", accept)["items"]) == TEMPLATES


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_support_continue_listing_from_the_last_key_if_the_original_version_has_been_compacted_away(
    e2e_cluster: EmbeddedHandle, typed: TypedClient, templates: str, accept: str
) -> None:
    limit = TEMPLATES // 10
    first = typed.get(f"{templates}?limit={limit}", accept)
    found = check_page(first, limit, 0)
    token = first["metadata"]["continue"]
    # five minutes of a real cluster: other objects change, and the history is compacted
    typed.patch("/api/v1/namespaces/chunking", "merge", {"metadata": {"annotations": {"changed": accept}}})
    e2e_cluster.call(lambda inner: inner.compact())
    with pytest.raises(Refused) as expired:
        typed.get(f"{templates}?limit={limit}&continue={token}", accept)
    assert (expired.value.code, expired.value.reason) == (410, "Expired")
    inconsistent = expired.value.status["metadata"]["continue"]
    second = typed.get(f"{templates}?limit={limit}&continue={inconsistent}", accept)
    assert second["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]
    assert len(second["items"]) == limit
    found = check_page(second, limit, found)
    versions = read_pages(typed, templates, accept, lambda: limit, second["metadata"]["continue"], found)
    assert versions == {second["metadata"]["resourceVersion"]}


# ---- API Streaming (aka. WatchList)


def secret(number: int) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"secret-{number}", "labels": {"watchlist": "true"}}}


def synced(events: Iterator[tuple[str, Object]]) -> dict[str, Object]:
    """An informer's store once the bookmark has come that ends the list."""
    store: dict[str, Object] = {}
    for kind, obj in events:
        if kind == "BOOKMARK":
            assert obj["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
            return store
        assert kind == "ADDED"
        store[obj["metadata"]["name"]] = obj
    raise AssertionError("the watch ended")


def bare(obj: Object) -> Object:
    """An object as a Go type has it: a field that is missing and one that is empty are the same."""
    return {key: value for key, value in obj.items() if value and key not in ("apiVersion", "kind")}


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_be_requested_by_informers_when_watchlistclient_is_enabled(typed: TypedClient, namespace: str, accept: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    made = [typed.create(path, secret(number)) for number in range(1, 6)]
    with typed.watch(f"{path}?{STREAMED}&labelSelector=watchlist%3Dtrue", accept) as events:
        assert [bare(each) for _, each in sorted(synced(events).items())] == [bare(each) for each in made]
        read = typed.get(f"{path}/secret-1")
        read |= {"apiVersion": "v1", "kind": "Secret", "stringData": {"foo": "bar"}}
        changed = typed.update(path, read)
        assert changed["data"] == {"foo": "YmFy"}
        kind, obj = next(events)
        assert (kind, bare(obj)) == ("MODIFIED", bare(changed))


def test_should_not_be_requested_by_client_go_s_list_method(typed: TypedClient, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    made = [typed.create(path, secret(number)) for number in range(1, 6)]
    for accept in (BOTH, PROTOBUF):
        listed = typed.get(f"{path}?labelSelector=watchlist%3Dtrue", accept)
        assert [bare(each) for each in listed["items"]] == [bare(each) for each in made]


def test_should_not_be_requested_by_dynamic_client_s_list_method(dynamic: TypedClient, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    made = [dynamic.create(path, secret(number)) for number in range(1, 6)]
    listed = dynamic.get(f"{path}?labelSelector=watchlist%3Dtrue")
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "SecretList")
    # the dynamic client gives items without a kind that of their list
    assert [bare(each) for each in listed["items"]] == [bare(each) for each in made]


@pytest.mark.parametrize("media", [JSON, PROTOBUF], ids=["json", "protobuf"])
def test_should_not_be_requested_by_metadata_client_s_list_method(typed: TypedClient, namespace: str, media: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    for number in range(1, 6):
        typed.create(path, secret(number))
    one, many = f"{media};as=PartialObjectMetadata;{META}", f"{media};as=PartialObjectMetadataList;{META}"
    if media == PROTOBUF:  # the metadata client prefers protobuf, and accepts JSON
        one, many = (f"{each},{each.replace(PROTOBUF, JSON)},{JSON}" for each in (one, many))
    alone = [typed.get(f"{path}/secret-{number}", one) for number in range(1, 6)]
    assert all(each["metadata"]["name"] and set(each) <= {"apiVersion", "kind", "metadata"} for each in alone)
    listed = typed.get(f"{path}?labelSelector=watchlist%3Dtrue", many)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [bare(each) for each in listed["items"]] == [bare(each) for each in alone]


def test_doesn_t_support_receiving_resources_as_tables(dynamic: TypedClient) -> None:
    table = f"{JSON};as=Table;v=v1;g=meta.k8s.io"
    with pytest.raises(Refused) as refused, dynamic.watch(f"/api/v1/namespaces/default/secrets?{STREAMED}", table):
        pass
    assert refused.value.code == 406


def test_falls_backs_to_supported_content_type_when_receiving_resources_as_tables_was_requested(
    dynamic: TypedClient, namespace: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/secrets"
    made = [dynamic.create(path, secret(number)) for number in range(1, 6)]
    accept = f"{JSON};as=Table;v=v1;g=meta.k8s.io,{JSON}"
    with dynamic.watch(f"{path}?{STREAMED}&labelSelector=watchlist%3Dtrue", accept) as events:
        assert [each for _, each in sorted(synced(events).items())] == made


# ---- Generated clientset


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_create_pods_set_the_deletiontimestamp_and_deletiongraceperiodseconds_of_the_pod(
    typed: TypedClient, namespace: str, accept: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods"
    listed = typed.get(f"{path}?labelSelector=time%3D42", accept)
    assert not listed.get("items")
    probe = {"httpGet": {"path": "/index.html", "port": 8080}, "initialDelaySeconds": 30}
    container = {"name": "nginx", "image": "nginx", "ports": [{"containerPort": 80}], "livenessProbe": probe}
    pod: Object = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}}
    pod["metadata"] = {"name": "pod-42", "labels": {"name": "foo", "time": "42"}}
    since = listed["metadata"]["resourceVersion"]
    with typed.watch(f"{path}?watch=true&labelSelector=time%3D42&resourceVersion={since}", accept) as events:
        made = typed.create(path, pod)
        version = made["metadata"]["resourceVersion"]
        assert len(typed.get(f"{path}?labelSelector=time%3D42&resourceVersion={version}", accept)["items"]) == 1
        assert next(events)[0] == "ADDED"
        until(lambda: typed.get(f"{path}/pod-42", accept)["status"]["phase"] == "Running", "the Pod does not run")
        typed.delete(f"{path}/pod-42", gracePeriodSeconds=31)
        for kind, obj in events:  # each has a deadline of its own, and the Pod is removed in the end
            assert kind in ("ADDED", "MODIFIED"), "the Pod went without a grace period"
            if kind == "MODIFIED" and obj["metadata"].get("deletionTimestamp"):
                assert obj["metadata"]["deletionGracePeriodSeconds"] == 31
                break
        else:
            pytest.fail("the watch ended")


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_create_cronjobs_delete_cronjobs_watch_cronjobs(typed: TypedClient, namespace: str, accept: str) -> None:
    path = f"/apis/batch/v1/namespaces/{namespace}/cronjobs"
    listed = typed.get(f"{path}?labelSelector=time%3D42", accept)
    assert not listed.get("items")
    container = {"name": "c", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    pod = {"restartPolicy": "OnFailure", "volumes": [{"name": "data", "emptyDir": {}}], "containers": [container]}
    job = {"spec": {"parallelism": 1, "completions": 1, "template": {"spec": pod}}}
    cron: Object = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "cron", "labels": {"time": "42"}}}
    cron["spec"] = {"schedule": "*/1 * * * ?", "concurrencyPolicy": "Allow", "jobTemplate": job}
    since = listed["metadata"]["resourceVersion"]
    with typed.watch(f"{path}?watch=true&labelSelector=time%3D42&resourceVersion={since}", accept) as events:
        version = typed.create(path, cron)["metadata"]["resourceVersion"]
        assert len(typed.get(f"{path}?labelSelector=time%3D42&resourceVersion={version}", accept)["items"]) == 1
        assert next(events)[0] == "ADDED"
        typed.delete(f"{path}/cron", propagationPolicy="Background")
        assert not typed.get(f"{path}?labelSelector=time%3D42", accept).get("items")


# ---- server version, kube-apiserver serving certificate


def test_should_find_the_server_version(typed: TypedClient) -> None:
    version: Any = typed.get("/version")
    assert re.fullmatch("[1-9]", version["major"])
    assert re.fullmatch("[0-9]+", version["minor"])


def test_should_include_the_in_cluster_kubernetes_service_names_in_its_serving_certificate_sans(
    e2e_cluster: EmbeddedHandle,
) -> None:
    host, _, port = e2e_cluster.server.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cadata=e2e_cluster.ca_pem)
    with socket.create_connection((host, int(port)), 10) as plain, context.wrap_socket(plain, server_hostname=host) as secure:
        leaf = secure.getpeercert(binary_form=True)
    assert leaf is not None
    names = x509.load_der_x509_certificate(leaf).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    wanted = {"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}
    assert wanted <= set(names.get_values_for_type(x509.DNSName))


# ---- Events


def event(namespace: str, name: str, label: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "labels": {label: "true"}},
        "message": f"This is {name}",
        "reason": "Test",
        "type": "Normal",
        "count": 1,
        "involvedObject": {"namespace": namespace},
    }


@pytest.mark.parametrize("accept", [BOTH, PROTOBUF], ids=["typed", "protobuf only"])
def test_should_ensure_that_an_event_can_be_fetched_patched_deleted_and_listed(
    typed: TypedClient, namespace: str, accept: str
) -> None:
    path = f"/api/v1/namespaces/{namespace}/events"
    everywhere = "/api/v1/events?labelSelector=testevent-constant%3Dtrue"
    typed.create(path, event(namespace, "event-test", "testevent-constant"))

    def listed() -> list[tuple[str, str]]:
        items = typed.get(everywhere, accept).get("items") or []
        return [(each["metadata"]["namespace"], each["metadata"]["name"]) for each in items]

    assert (namespace, "event-test") in listed()
    typed.patch(f"{path}/event-test", "strategic", {"message": "patched"})
    assert typed.get(f"{path}/event-test", accept)["message"] == "patched"
    typed.delete(f"{path}/event-test")
    assert (namespace, "event-test") not in listed()


def test_should_delete_a_collection_of_events(typed: TypedClient, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/events"
    for number in range(1, 4):
        typed.create(path, event(namespace, f"test-event-{number}", "testevent-set"))
    chosen = f"{path}?labelSelector=testevent-set%3Dtrue"
    assert len(typed.get(chosen)["items"]) == 3
    typed.delete(chosen)
    until(lambda: not typed.get(chosen)["items"], "the events are still there")
