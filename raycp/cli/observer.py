"""The way from a command to the fleet's observer and its JSON API."""

import argparse
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from raycp.cli.errors import BadInput, CliError


def add_observer(parser: argparse.ArgumentParser) -> None:
    """Which fleet, or where its observer is."""
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file, to know the fleet's name")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name; the only one that runs by default")
    parser.add_argument("--address", metavar="HOST:PORT", help="head of the Ray cluster (default: the one at hand)")
    parser.add_argument("--url", help="the observer's address, such as http://HOST:9464; asks Ray for it by default")


def fetch(url: str, path: str) -> dict[str, Any] | None:
    """A JSON answer of the observer, None where it knows nothing of that. Raises ``CliError``."""
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url!r} is no http:// or https:// address")
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise CliError(f"the observer at {url} answers {error.code} to {path}") from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise CliError(f"the observer at {url} does not answer: {reason}", "name it with --url") from error


def observer_url(args: argparse.Namespace) -> str:
    """``--url``, or what the fleet's leader says. Raises ``CliError`` where there is none."""
    if args.url:
        return str(args.url)
    from raycp.cli.fleets import at_ray, existing, namespace_of, run_async
    from raycp.driver.fleet_client import FleetClient

    with at_ray(existing(args.address)):
        status = run_async(FleetClient(namespace_of(args)).status())
    url = (status.get("observer") or {}).get("url")
    if not url:
        raise CliError("the fleet has no observer at the moment", "try again, or see `raycp status`")
    return str(url)
