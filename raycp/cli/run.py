"""``raycp run``: bring a fleet up on a running Ray, or on one of its own in the foreground."""

import argparse
import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from raycp.base.problems import ProblemCode
from raycp.cli.console import progress
from raycp.cli.end_signals import Ending
from raycp.cli.errors import CliError
from raycp.cli.failure_watch import FailureWatch
from raycp.cli.fleets import add_address, add_file, at_ray, claim, run_async, to_join
from raycp.cli.module_search import add_working_dir, search_of
from raycp.cli.observer_access import is_local, use_files_of
from raycp.cli.output import bullets
from raycp.cli.ports import check_ports
from raycp.cli.printer import say
from raycp.cli.prompt import unhurried
from raycp.cli.status import readiness_of
from raycp.config import load_fleet
from raycp.config.rayenv import unfit_python
from raycp.driver.fleet_client import FleetClient, StandsBy, up
from raycp.runtime.fleet_home import forget_ray
from raycp.runtime.head import open_to_all
from raycp.runtime.ray_token import environment


def add_parser(subparsers: Any) -> None:
    """``raycp run -c FLEET.yaml [--address HOST:PORT]``."""
    parser: argparse.ArgumentParser = subparsers.add_parser("run", help="bring a fleet up")
    add_file(parser)
    add_address(parser)
    add_working_dir(parser)
    parser.add_argument("--attach", action="store_true", help="stay in the foreground, though the fleet does not need it")


def run(args: argparse.Namespace) -> int:
    """0 when the fleet is ready (or, in the foreground, was taken down); 1 when it waits, since another of its name leads."""
    from raycp.driver.fleet_builder import build_fleet
    from raycp.runtime import local_ray

    doc = load_fleet(args.config)
    search = search_of(args)
    # Before Ray is started: an import error of a module needs no Ray to be found.
    build_fleet(doc, args.config, search)
    where = to_join(args.address or doc.spec.ray.address)
    if not where:
        check_ports(doc, args.config)
        say(f"starting Ray and fleet {doc.name}", error=True)
    with at_ray(where or "local", doc.spec.ray.num_cpus) as at_hand:
        if open_to_all(at_hand.address):
            say(f"warning: {open_ray(at_hand.address)}", error=True)
        uri = local_ray.working_dir_uri()
        fleet = build_fleet(doc, args.config, search, uri)
        if "PYTHONPATH" in fleet.runtime and not local_ray.single_local_node():
            raise CliError(
                "the controllers' modules are on this machine only, and Ray has other nodes",
                "use `raycp submit`, which sends them, or install them on all nodes",
            )
        if where and local_ray.single_local_node():
            if why := unfit_python(sys.executable):
                raise CliError(why)
            if doc.ray_namespace not in local_ray.running_namespaces():
                check_ports(doc, args.config)
        claim(doc, at_hand)
        client = FleetClient(doc.ray_namespace)
        with Ending(f"fleet {doc.name} is being taken down" if at_hand.ours else "this command is ending") as ending:
            try:
                with readiness(doc.name) as waits:
                    coming = up(client, fleet, lambda status: waits(status.get("unsettled") or status.get("reasons") or []))
                    status = run_async(coming)
                say(f"fleet {doc.name} is {readiness_of(status)}: epoch {status['leader']['epoch']}, generation {fleet.generation}")
                say(summary(status))
                if at_hand.ours and at_hand.token is not None:
                    say(f"its Ray, for `ray status`: export {assignments(at_hand.address, at_hand.token)}")
                if at_hand.ours or args.attach:
                    use_files_of(doc.spec.observer)
                    with FailureWatch(status["observer"]["url"], lambda: observer_of(client)):
                        came = foreground(ending, at_hand.ours)
                    if came == signal.SIGTERM and not at_hand.ours:
                        give_way(client, doc.name)
            except CliError as error:
                if not isinstance(error.__cause__, StandsBy):
                    raise
                if not (at_hand.ours or args.attach):
                    raise
                say(str(error), error=True)
                foreground(ending, at_hand.ours)
            except KeyboardInterrupt:
                if not at_hand.ours:
                    say(f"fleet {doc.name} goes on coming up; `raycp down` ends it", error=True)
                return 128 + (ending.came or signal.SIGINT)
            finally:
                if at_hand.ours:
                    ending.ends()
                    run_async(client.down(min(10.0, doc.spec.timeouts.drain)))
                    forget_ray(doc.name, at_hand.address)
                    say(f"fleet {doc.name} is down")
    return 0


@contextlib.contextmanager
def readiness(name: str) -> Iterator[Callable[[list[str]], None]]:
    """Progress of a fleet that comes up: takes the reasons why it is not ready yet, and shows the first."""
    with progress(f"waiting for fleet {name}") as report:
        yield lambda reasons: report(
            f"waiting for {len(reasons)} condition{'' if len(reasons) == 1 else 's'}: {reasons[0]}" if reasons else "", 0
        )


def summary(status: dict[str, Any]) -> str:
    """Why a fleet is degraded, and the addresses that a user needs next."""
    url = str(status["observer"]["url"])
    lines = [f"it is {readiness_of(status)}:", bullets(status["reasons"])] if status["reasons"] else []
    lines.append(f"status page and metrics: {url}")
    if is_local(url):
        lines.append("  on its node only: from elsewhere forward the port, or set spec.observer.host and tokens (docs/security.md)")
    for cluster in status["clusters"]:
        if cluster["kubeconfig"]:
            lines.append(f"kubeconfig of {cluster['name']}: {cluster['kubeconfig']}")
    lines += [each["message"] for each in status["problems"] if each["code"] == ProblemCode.KUBECONFIG_NOT_WRITTEN]
    return "\n".join(lines)


def observer_of(client: FleetClient) -> str:
    """The address of the fleet's observer, empty while none runs. Raises ``CliError``."""
    return str((run_async(client.status()).get("observer") or {}).get("url") or "")


def assignments(address: str, token: Path) -> str:
    """``NAME=value`` for a shell, by which Ray's own commands reach that Ray."""
    variables = {"RAY_ADDRESS": address, **environment(token)}
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())


def open_ray(address: str) -> str:
    """That the Ray at ``address`` asks for no token, and the remedy."""
    return (
        f"whoever reaches the Ray at {address} runs code there and reads the credentials of all clusters: it asks for no token. "
        "Start it with RAY_AUTH_MODE=token (docs/security.md)"
    )


def give_way(client: FleetClient, name: str) -> None:
    """On SIGTERM: hand over to a warm standby fleet; without one, the fleet goes on without this process."""
    from raycp.driver import upgrade

    beside = run_async(client.beside())
    if beside is None or not beside.get("warm"):
        say(f"there is no warm standby fleet: fleet {name} goes on without this process")
        return
    try:
        yielded = run_async(upgrade.switch(client))
    except CliError as error:
        say(str(error), error=True)
    else:
        say(f"fleet {name} was handed over to generation {beside['generation']}: epoch {yielded.epoch}")


def foreground(ending: Ending, ours: bool) -> int:
    """Wait until the command is asked to end; the signal that came."""
    unhurried()
    ending.patient()  # a reader of the next line may send the signal at once
    say("Ctrl-C takes it down." if ours else "Ctrl-C ends this command; the fleet goes on.", error=True)
    return ending.wait()
