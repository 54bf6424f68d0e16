"""The actor of one embedded cluster: starts it, reports its endpoint, writes a kubeconfig file."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raycp.base.clock import Clock
from raycp.base.problems import ProblemCode, ProblemOwner, Subject
from raycp.embedded.cluster import EmbeddedCluster
from raycp.embedded.files import write_whole
from raycp.kube import ConnectSpec
from raycp.member.core import MemberCore
from raycp.member.limits import REQUESTS_AT_ONCE, breaker_policy
from raycp.metrics.recorder import FlightRecorder
from raycp.protocol.control import EndpointOf, KubeconfigOf, Question
from raycp.protocol.members import Member
from raycp.protocol.plan import Plan
from raycp.protocol.report import Report
from raycp.runtime.fleet_home import fleet_home


class EmbeddedCore(MemberCore):
    """Runs one ``EmbeddedCluster`` for the fleet."""

    def __init__(self, member: Member, clock: Clock, host: str, node: str, recorder: FlightRecorder | None = None) -> None:
        super().__init__(member, clock, host, node, recorder)
        self.cluster: EmbeddedCluster | None = None
        self._connect: ConnectSpec | None = None
        self._kubeconfig = ""
        self._file = ""
        self._unwritten = ""
        """Why there is no file."""
        self._error = ""
        self._ended = False
        self._changing = asyncio.Lock()
        """Of ``cluster``: it may be asked to end while it starts."""

    async def configure(self, plan: Plan, before: Plan | None) -> None:
        async with self._changing:
            if self.cluster is None and not self._ended:
                await self._start(plan)

    async def _start(self, plan: Plan) -> None:
        name = self.member.place
        spec = plan.fleet.doc.cluster(name).embedded
        if spec is None:
            raise ValueError(f"cluster {name} is not embedded")
        try:
            cluster = EmbeddedCluster(name, spec, self.clock)
            endpoint = await cluster.start()
        except Exception as error:
            self._error = f"could not start: {error}"
            self.changed()
            raise
        self.cluster = cluster
        self._error = ""
        self._connect = ConnectSpec(
            name=name,
            mode="direct",
            server=endpoint.server,
            ca_pem=endpoint.ca_pem,
            token=endpoint.token,
            max_in_flight=plan.fleet.doc.cluster(name).max_in_flight or REQUESTS_AT_ONCE,
            breaker=breaker_policy(plan.fleet.doc.cluster(name).breaker),
            qps=plan.fleet.doc.cluster(name).qps or 0.0,
            burst=plan.fleet.doc.cluster(name).burst or 0,
            timeout=plan.fleet.doc.cluster(name).request_timeout,
        )
        self._kubeconfig = endpoint.kubeconfig
        try:
            self._file = write_kubeconfig(plan.fleet.name, name, endpoint.kubeconfig)
        except OSError as error:
            self._unwritten = (
                f"on {self.node} the kubeconfig of {name} can't be written: {error}; "
                f"`raycp kubeconfig {name}` prints it (RAYCP_HOME names the directory on each node)"
            )

    async def extra(self, question: Question[Any]) -> Any:
        match question:
            case EndpointOf():
                return self._connect
            case KubeconfigOf():
                return self._kubeconfig
        return await super().extra(question)

    async def abort(self) -> None:
        await super().abort()
        await self.drain(0.0)

    async def drain(self, timeout: float) -> None:
        async with self._changing:
            self._ended = True
            if self.cluster is not None:
                await self.cluster.stop()
            if self._file:
                await asyncio.to_thread(Path(self._file).unlink, missing_ok=True)

    def fill(self, report: Report) -> None:
        report.ready = self._connect is not None
        report.state = "running" if report.ready else "starting"
        report.reasons = [] if report.ready else [self._error or "starting"]
        if self._file:
            report.extra["kubeconfig"] = self._file

    def problems(self, report: Report) -> Mapping[Subject, str]:
        found = (ProblemCode.KUBECONFIG_NOT_WRITTEN, ProblemOwner(cluster=self.member.place))
        return {found: self._unwritten} if self._unwritten else {}


def write_kubeconfig(fleet: str, cluster: str, text: str) -> str:
    """Write it readable by its owner only; its path. Raises ``OSError``."""
    directory = fleet_home(fleet)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{cluster}.kubeconfig"
    write_whole(path, text.encode())
    return str(path)
