"""A fleet whose members have different addresses, as on several nodes: its channels are encrypted, and on the ports of its file."""

import asyncio
from typing import Any

import fleet_samples as samples
import pytest
from inprocess import fleet_doc, led, until

from raycp.protocol.channels import channel_credentials
from raycp.protocol.members import Member, Role

HOSTS = {Role.SHARD: "127.0.0.1", Role.STANDBY: "127.0.0.2", Role.WORKER: "127.0.0.3", Role.OBSERVER: "127.0.0.4"}
PORTS = range(27_000, 27_400)


async def test_a_fleet_on_several_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    near: list[bool] = []
    on_one_node = channel_credentials.on_one_node

    def asked(connected: Any) -> bool:
        near.append(on_one_node(connected))
        return near[-1]

    monkeypatch.setattr(channel_credentials, "on_one_node", asked)
    async with led() as fleet:
        fleet.substrate.host_of = lambda member: HOSTS.get(member.role, "127.0.0.1")
        ports = {"ports": f"{PORTS[0]}-{PORTS[-1]}"}
        doc = fleet_doc(["hub", "east"], ["fleet_samples:tracked"], shards={"standby": 1, "clustersPerShard": 1}, channels=ports)
        await fleet.apply(doc, 60.0)
        plan = fleet.leader.plan
        assert plan is not None
        assert {worker.host for worker in plan.workers} == {"127.0.0.3"}
        await fleet.put("east", "tracked", "a")
        await until(lambda: any(name == "a" for _, _, name in samples.RAN))
        assert near.count(False) >= 8, "both ends of a worker's connections to two shards, and of two standbys' to their primaries"
        listening = [core for core in fleet.substrate.cores.values() if core.member.role in HOSTS]
        assert len(listening) >= 6
        assert all(core.report().port in PORTS for core in listening)
        # The gap of a switch is that of the workers' connections, which are there.
        east = next(shard for shard in plan.shards if shard.shard == plan.cluster("east").shard)
        worker = fleet.substrate.living(Role.WORKER)[0]
        standbys = {core.member.actor_name for core in fleet.substrate.living(Role.STANDBY)}
        await until(lambda: set(worker.standbys.ready()) == standbys)
        await until(lambda: fleet.leader.roster.standby_of(east.shard) is not None, what="a standby that may be promoted")
        primary = Member.parse(east.member)
        assert primary is not None
        await fleet.substrate.kill(primary)
        await until(lambda: worker.links[east.shard].target.member in standbys and worker.links[east.shard].connected)
        await fleet.put("east", "tracked", "b")
        await until(lambda: any(name == "b" for _, _, name in samples.RAN))
        await fleet.ready(seconds=60.0)


async def test_without_a_certificate_nothing_passes_between_nodes() -> None:
    made = channel_credentials.ChannelCredentials("w")
    made.learn("secret", ())
    server = await asyncio.start_server(lambda *_: None, "127.0.0.2", 0)
    _, writer = await asyncio.open_connection("127.0.0.2", server.sockets[0].getsockname()[1])
    sock = writer.get_extra_info("socket")
    for tls in (made.caller_tls, made.receiver_tls):
        with pytest.raises(OSError, match="no certificate for connections between nodes"):
            tls(sock)
    writer.close()
    server.close()
