"""Access of commands to the fleet's observer and its JSON API."""

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from raycp.cli.errors import BadInput, CliError


def add_observer(parser: argparse.ArgumentParser) -> None:
    """Arguments that name the fleet, or its observer's address."""
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file, for the fleet's name")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name (default: the only one that runs)")
    parser.add_argument("--address", metavar="HOST:PORT", help="head of the Ray cluster (default: the one on this machine)")
    parser.add_argument("--url", help="the observer's address, such as http://HOST:9464 (default: as the leader reports it)")


def fetch(url: str, path: str) -> dict[str, Any] | None:
    """A JSON answer of the observer, None where it answers 404. Raises ``CliError``."""
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url!r} is not an http:// or https:// address")
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise CliError(f"the observer at {url} answered {error.code} to {path}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CliError(f"the observer at {url} does not answer: {reason}", "name it with --url") from error


def observer_url(args: argparse.Namespace) -> str:
    """``--url``, or the address that the leader reports. Raises ``CliError`` where no observer runs."""
    if args.url:
        return str(args.url)
    from raycp.cli.fleets import at_ray, existing, namespace_of, note_release, run_async
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args)):
        status = run_async(FleetClient(namespace_of(args)).status())
    note_release(status)
    url = (status.get("observer") or {}).get("url")
    if not url:
        raise CliError("no observer of the fleet runs at the moment", "try again, or see `raycp status`")
    return str(url)
