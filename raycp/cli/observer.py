"""Access of commands to the fleet's observer and its JSON API."""

import argparse
import http.client
import json
import queue
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raycp.base.plaintext import one_line
from raycp.cli.errors import BadInput, CliError
from raycp.cli.observer_access import CA, CERT, KEY, TOKEN_FILE, context, headers, is_local, use_files_of

LARGEST = 256 << 20
"""Bytes of an answer: of a fleet of 1 000 clusters they are some ten million."""


def add_observer(parser: argparse.ArgumentParser) -> None:
    """Arguments that name the fleet, or its observer's address."""
    parser.add_argument("-c", "--config", type=Path, metavar="FLEET.yaml", help="the fleet file, for the fleet's name")
    parser.add_argument("--fleet", metavar="NAME", help="the fleet's name (default: the only one that runs)")
    parser.add_argument("--address", metavar="HOST:PORT", help="head of the Ray cluster (default: the one on this machine)")
    parser.add_argument("--url", help="the observer's address, such as http://HOST:9464 (default: as the leader reports it)")


def fetch(url: str, path: str, timeout: float = 10.0) -> dict[str, Any] | None:
    """A JSON answer of the observer, None where it answers 404. ``timeout`` in seconds is for each step of it, three times that for
    all. Raises ``CliError``, also where anything else listens there, whatever it answers.
    """
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url!r} is not an http:// or https:// address")
    try:
        request = urllib.request.Request(url.rstrip("/") + path, headers=headers())
        found = json.loads(_in_time(lambda: _read(url, request, timeout), 3 * timeout))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        if error.code == 401:
            raise CliError(
                f"the observer at {url} lets nobody read without a token or a client certificate",
                f"name a file with its token in {TOKEN_FILE}, or a certificate in {CERT} and {KEY}",
            ) from error
        raise CliError(f"the observer at {url} answered {error.code} to {path}") from error
    except (OSError, ValueError) as error:  # URLError is an OSError
        reason = getattr(error, "reason", None) or error
        raise CliError(f"the observer at {url} does not answer: {reason}", _remedy(url, reason)) from error
    except (http.client.HTTPException, RecursionError) as error:
        what = one_line(f"{type(error).__name__}: {str(error).strip()}")
        raise CliError(f"the answer of {url} to {path} breaks off, or is none of an observer's ({what})", _OTHER) from error
    if not isinstance(found, dict):
        raise CliError(f"{url} answers {path} with other JSON than an observer's", _OTHER)
    return found


_OTHER = "try again, or name the right one with --url"


def _read(url: str, request: urllib.request.Request, timeout: float) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=context(url))]
    if is_local(url):  # no proxy leads to this machine
        handlers.append(urllib.request.ProxyHandler({}))
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
        body: bytes = answer.read(LARGEST + 1)
    if len(body) > LARGEST:
        raise ValueError(f"its answer has more than {LARGEST >> 20} MiB")
    return body


def _in_time(work: Callable[[], bytes], within: float) -> bytes:
    """What ``work`` returns or raises. Raises ``TimeoutError`` where it takes longer: an answer may come in drops."""
    done: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put(work())
        except Exception as error:
            done.put(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        found = done.get(timeout=within)
    except queue.Empty:
        raise TimeoutError(f"no whole answer within {within:g} s") from None
    if isinstance(found, Exception):
        raise found
    return found


def fetch_list(url: str, path: str, *fields: str) -> dict[str, Any]:
    """As ``fetch``, of a path that every observer of this release serves; the answer has ``fields``. Raises ``CliError``."""
    found = fetch(url, path)
    if found is None or not found.keys() >= set(fields):
        remedy = "its raycp is older, or it is no raycp observer: name the right one with --url"
        raise CliError(f"{url} does not serve {path}", remedy)
    return found


def located(args: argparse.Namespace, ask: Callable[[str], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """``ask``, of the observer that the arguments name; where that fails, of the one that they name by the next time: it may have
    been replaced on another node. Raises ``CliError``, as does what it returns."""
    url = observer_url(args)

    def asked() -> dict[str, Any]:
        nonlocal url
        url = url or observer_url(args)
        try:
            return ask(url)
        except CliError:
            url = ""
            raise

    return asked


def _remedy(url: str, reason: object) -> str:
    if isinstance(reason, ssl.SSLError):
        return f"name the authority of its certificate in {CA}, and the observer by a name that the certificate has with --url"
    if is_local(url):
        return (
            "it listens on its own node only: run this there, forward its port, name it with --url, or set spec.observer.host "
            "(docs/security.md, the observer)"
        )
    return "name it with --url"


def observer_url(args: argparse.Namespace) -> str:
    """``--url``, or the address that the leader reports. Raises ``CliError`` where no observer runs."""
    if args.config is not None:
        from raycp.config.load import load_fleet

        use_files_of(load_fleet(args.config).spec.observer)
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
