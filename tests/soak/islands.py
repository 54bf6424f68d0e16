"""Network namespaces on one machine: hosts whose packets can be dropped for real. Needs root and ``ip`` (iproute2)."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rayhouse import House, Node

from raycp.bench.ports import free_port

NOWHERE = "02:00:00:00:00:01"
"""A hardware address that no device has: packets to it are lost."""


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True, timeout=10)
    if done.returncode:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


class Island:
    """A network namespace behind a pair of virtual ethernet devices. ``ip`` is its address; ``shore`` and ``beach`` are two
    addresses of this side, one of which can be cut off while the other stays reachable.
    """

    def __init__(self, number: int) -> None:
        self.name = f"raycp-{os.getpid()}-{number}"
        self._here, self._there = f"rc{os.getpid() % 10**6}h{number}", f"rc{os.getpid() % 10**6}n{number}"
        net = f"10.213.{os.getpid() % 256}"
        self.shore, self.ip, self.beach = (f"{net}.{8 * number + last}" for last in (1, 2, 3))
        self._hardware: dict[str, str] = {}

    @property
    def within(self) -> list[str]:
        """The prefix of a command that runs in the namespace."""
        return ["ip", "netns", "exec", self.name]

    def rise(self) -> None:
        ip("netns", "add", self.name)
        ip("link", "add", self._here, "type", "veth", "peer", "name", self._there, "netns", self.name)
        ip("addr", "add", f"{self.shore}/29", "dev", self._here)
        ip("addr", "add", f"{self.beach}/29", "dev", self._here)
        ip("-n", self.name, "addr", "add", f"{self.ip}/29", "dev", self._there)
        ip("link", "set", self._here, "up")
        for device in ("lo", self._there):
            ip("-n", self.name, "link", "set", device, "up")
        here = json.loads(ip("-j", "link", "show", self._here))[0]["address"]
        there = json.loads(ip("-n", self.name, "-j", "link", "show", self._there))[0]["address"]
        self._hardware = {self.shore: here, self.beach: here, self.ip: there}
        self._neighbours()

    def _neighbours(self) -> None:
        """Permanent entries, so that a dead link is silent, without 'no route to host' after the third ARP request."""
        for address in (self.shore, self.beach):
            self._neighbour(address, self._hardware[address], island=True)
        self._neighbour(self.ip, self._hardware[self.ip], island=False)

    def _neighbour(self, address: str, hardware: str, island: bool) -> None:
        where, device = (["-n", self.name], self._there) if island else ([], self._here)
        ip(*where, "neigh", "replace", address, "lladdr", hardware, "nud", "permanent", "dev", device)

    def link(self, up: bool) -> None:
        """Take the namespace's end of the link up or down. While it is down, packets are dropped in both directions without an
        error.
        """
        ip("-n", self.name, "link", "set", self._there, "up" if up else "down")
        if up:
            self._neighbours()

    def silence(self, address: str, on: bool) -> None:
        """Drop packets from the namespace to one address of this side (``shore`` or ``beach``)."""
        self._neighbour(address, NOWHERE if on else self._hardware[address], island=True)

    def sink(self) -> None:
        for work in (("link", "del", self._here), ("netns", "del", self.name)):
            with contextlib.suppress(OSError):
                ip(*work)


@contextlib.contextmanager
def island(number: int = 1) -> Iterator[Island]:
    """A namespace for the duration of the block; the test is skipped if this machine cannot create it."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    made = Island(number)
    try:
        try:
            made.rise()
        except OSError as error:
            pytest.skip(f"this machine cannot create network namespaces with veth: {error}")
        yield made
    finally:
        made.sink()


def ray_node(house: House, at: Island, name: str, *, beach: bool = False, cpus: int = 4, labels: str = "") -> Node:
    """A raylet of ``house`` in the namespace, or on the second address of this side (``beach``)."""
    within, address = ([], at.beach) if beach else (at.within, at.ip)
    command = [
        *within, str(Path(sys.executable).parent / "ray"), "start", f"--address={house.address}", "--block",
        f"--node-ip-address={address}", f"--num-cpus={cpus}", "--object-store-memory=100000000", "--disable-usage-stats",
        "--include-log-monitor=false", f"--dashboard-agent-listen-port={free_port()}", f"--temp-dir={house.temp}",
        *([f"--labels={labels}"] if labels else []),
    ]  # fmt: skip
    return house.join(name, address, command)
