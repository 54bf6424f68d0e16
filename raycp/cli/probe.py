"""``raycp check`` of one cluster: reachability, version, kinds served, rights."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec

from raycp.base.clock import Clock
from raycp.cli.rights import Need
from raycp.config.clusters import ClusterSpec
from raycp.kube import ApiError, ClusterClient, ConnectError, ConnectSpec, KubeError, NoSuchKind, Resource, decode_answer
from raycp.kube.connect import UserSource

OLDEST = (1, 28)
"""The oldest supported Kubernetes: from 1.28 on lists are consistent and CRD validation is as documented."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_AT_ONCE = 16


@dataclass
class ClusterCheck:
    """The result for one cluster. ``problems`` fail the check, ``warnings`` don't.

    ``uid`` is that of namespace ``kube-system``, which identifies the cluster; ``asked`` counts the rights needed,
    ``granted`` those that the credentials have.
    """

    cluster: str
    role: str
    mode: str
    version: str = ""
    uid: str = ""
    milliseconds: float | None = None
    granted: int = 0
    asked: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def status(self) -> Literal["ok", "warning", "failed"]:
        """The result in one word."""
        if self.problems:
            return "failed"
        return "warning" if self.warnings else "ok"

    def row(self) -> dict[str, Any]:
        """For ``output.render``."""
        return {**asdict(self), "status": self.status}


class _Allowed(msgspec.Struct):
    allowed: bool = False


class _Review(msgspec.Struct):
    status: _Allowed


def connect_spec(cluster: ClusterSpec, user: UserSource | None = None) -> ConnectSpec:
    """How to reach a cluster that is not embedded, as another user than its own if one is given."""
    reference = cluster.kubeconfig
    return ConnectSpec(
        name=cluster.name,
        mode="inCluster" if reference is None else "kubeconfig",
        path=reference.path if reference else None,
        context=reference.context if reference else None,
        insecure=cluster.insecure_skip_tls_verify,
        qps=cluster.qps or 0.0,
        burst=cluster.burst or 0,
        max_in_flight=cluster.max_in_flight or 256,
        timeout=cluster.request_timeout,
        user_agent="raycp-check",
        user=user,
    )


async def probe(
    cluster: ClusterSpec,
    role: str,
    needs: Sequence[Need],
    installs: dict[str, str],
    clock: Clock,
    own: Mapping[UserSource, Sequence[Need]] | None = None,
) -> ClusterCheck:
    """Check ``cluster``. ``installs`` maps kinds that the fleet installs itself (``str(GVK)``) to their plurals; ``own`` are the
    needs of controllers that have credentials of their own there.

    Errors of the cluster are problems of the result; none is raised.
    """
    report = ClusterCheck(cluster.name, role, cluster.mode)
    if cluster.embedded is not None:
        report.version = "embedded"
        return report
    if cluster.insecure_skip_tls_verify:
        report.warnings.append("TLS is not verified: any host on the network path can act as this cluster")
    async with _connected(connect_spec(cluster), report, clock) as client:
        if client is None:
            return report
        await _ask(client, needs, installs, report, clock)
    for user, wanted in (own or {}).items():
        async with _connected(connect_spec(cluster, user), report, clock) as client:
            if client is not None:
                await _ask_rights(client, wanted, installs, report, f"the user of {user.path}")
    return report


@contextlib.asynccontextmanager
async def _connected(spec: ConnectSpec, report: ClusterCheck, clock: Clock) -> AsyncIterator[ClusterClient | None]:
    """A client, closed at the end; None where there is none. What goes wrong is a problem of ``report``."""
    try:
        client = await ClusterClient.connect(spec, clock)
    except ConnectError as error:
        whose = f"{spec.user.path}: " if spec.user is not None and spec.user.path not in error.problem else ""
        report.problems.append(f"{whose}{error.problem}; {error.remedy[:1].lower()}{error.remedy[1:]}")
        yield None
        return
    try:
        yield client
    except KubeError as error:
        report.problems.append(str(error))
    finally:
        await client.close()


def same_clusters(reports: Sequence[ClusterCheck]) -> None:
    """Add a problem where two entries lead to one cluster: its keys would go to two workers at once (law 1)."""
    first: dict[str, ClusterCheck] = {}
    for report in reports:
        if report.uid and (other := first.setdefault(report.uid, report)) is not report:
            report.problems.append(f"is the same cluster as {other.cluster}; name each cluster once")


async def _ask(client: ClusterClient, needs: Sequence[Need], installs: dict[str, str], report: ClusterCheck, clock: Clock) -> None:
    begin = clock.now()
    version = await client.version()
    report.milliseconds = round((clock.now() - begin) * 1000, 1)
    report.version = version.gitVersion or "unknown"
    report.uid = await client.identity()
    number = tuple(int(part) for part in re.findall(r"\d+", f"{version.major}.{version.minor}")[:2])
    if len(number) == 2 and number < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        report.problems.append(f"runs Kubernetes {report.version}; raycp needs {oldest} or newer")
    await _ask_rights(client, needs, installs, report, "us")


async def _ask_rights(
    client: ClusterClient, needs: Sequence[Need], installs: dict[str, str], report: ClusterCheck, whom: str
) -> None:
    known: list[tuple[Need, str]] = []
    for need in needs:
        try:
            resource: Resource = await client.resource(need.kind)
            known.append((need, resource.plural))
        except NoSuchKind:
            plural = installs.get(str(need.kind))
            if plural:
                known.append((need, plural))
            else:
                report.problems.append(f"serves no {need.kind} ({need.why}); install its CRD, or correct the kind")
    gate = asyncio.Semaphore(_AT_ONCE)
    questions = [(need, plural, verb) for need, plural in known for verb in need.verbs]
    answers = await asyncio.gather(*(_may(client, *question, gate) for question in questions))
    refused: dict[Need, list[str]] = {}
    for (need, _, verb), allowed in zip(questions, answers, strict=True):
        report.asked += 1
        report.granted += allowed
        if not allowed:
            refused.setdefault(need, []).append(verb)
    for need, verbs in refused.items():
        where = f" {need.name}" if need.name else f" in namespace {need.namespace}" if need.namespace else ""
        report.problems.append(f"does not let {whom} {', '.join(verbs)} {need.kind}{where} ({need.why}); see deploy/rbac")


async def _may(client: ClusterClient, need: Need, plural: str, verb: str, gate: asyncio.Semaphore) -> bool:
    attributes = {
        "verb": verb,
        "group": need.kind.group,
        "version": need.kind.version,
        "resource": plural,
        "subresource": need.subresource,
        "namespace": need.namespace,
        "name": need.name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
    }
    async with gate:
        try:
            answer = await client.request("POST", _REVIEWS, body=json.dumps(review).encode())
        except ApiError as error:
            if error.status == 404:  # without the authorization API, rights can't be reviewed
                return True
            raise
    return decode_answer(answer.body, _Review, f"POST {_REVIEWS}").status.allowed
