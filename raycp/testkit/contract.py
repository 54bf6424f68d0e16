"""Replays requests against an API server and compares its answers with what was expected.

A case is a name and steps, run in a fresh namespace ``{ns}``; ``{id}`` makes cluster-scoped names unique. A step is one of::

    - {do: GET /path, body: {...}, headers: {...}, status: 200, gives: {...}, has_headers: {...}, keep: {name: path.in.body}}
    - {watch: /path, meanwhile: [steps], events: [[ADDED, name], ...], ends: true}

``gives`` is the least that the answer must contain: maps may have more keys, lists must have as many items; ``<any>`` matches any
value, ``<none>`` a missing one, ``~text`` searches for a regular expression. ``warning`` is a regular expression for the Warning
headers. Without ``events``, a watch is only held open for a while. ``body`` may be text, sent as it is. ``{x:N}`` in any text is
N letters x.
"""

import asyncio
import base64
import json
import re
import ssl
import tempfile
import uuid
from pathlib import Path
from typing import Any

import aiohttp
import yaml

Step = dict[str, Any]
SETTLE = 0.3
"""seconds in which a watch must be open before what it is to see is done"""


def load_cases(directory: Path) -> dict[str, list[Step]]:
    """All cases of the YAML files of a directory: ``file/case`` to steps."""
    found: dict[str, list[Step]] = {}
    for path in sorted(directory.glob("*.yaml")):
        for name, steps in yaml.safe_load(path.read_text()).items():
            found[f"{path.stem}/{name}"] = steps
    return found


class Runner:
    """One API server, by its kubeconfig. Use as an async context manager."""

    def __init__(self, kubeconfig: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        context = next(c["context"] for c in document["contexts"] if c["name"] == document["current-context"])
        cluster = next(c["cluster"] for c in document["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in document["users"] if u["name"] == context["user"])
        self._base = cluster["server"].rstrip("/")
        self._tls = _tls(cluster, user, kubeconfig.parent)
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}

    async def __aenter__(self) -> "Runner":
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls), timeout=aiohttp.ClientTimeout(total=30), auto_decompress=True
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()

    async def run(self, steps: list[Step]) -> list[str]:
        """What is not as expected, one line each."""
        identity = uuid.uuid4().hex[:8]
        names = {"ns": f"t-{identity}", "id": identity}
        problems: list[str] = []
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names["ns"]}}
        await self._ask({"do": "POST /api/v1/namespaces", "body": namespace}, names)
        try:
            for number, step in enumerate(steps, 1):
                run = self._watch if "watch" in step else self._step
                problems += [f"step {number}: {problem}" for problem in await run(step, names)]
        finally:
            await self._ask({"do": "DELETE /api/v1/namespaces/{ns}"}, names)
        return problems

    async def _step(self, step: Step, names: dict[str, str]) -> list[str]:
        status, headers, body = await self._ask(step, names)
        found: list[str] = []
        if status != step.get("status", 200):
            found.append(f"{step['do']}: status {status}, expected {step.get('status', 200)}: {json.dumps(body)[:300]}")
        found += [f"{step['do']}: {p}" for p in differences(_fill(step.get("gives"), names), body, "body")]
        for name, wanted in (step.get("has_headers") or {}).items():
            found += [f"{step['do']}: {p}" for p in differences(_fill(wanted, names), headers.get(name), name)]
        if "warning" in step and not re.search(step["warning"], " ".join(headers.getall("Warning", [])).replace("\\", "")):
            found.append(f"{step['do']}: no warning like {step['warning']!r}, but {headers.getall('Warning', [])}")
        for name, path in (step.get("keep") or {}).items():
            value = body
            for part in path.split("."):
                value = value[int(part)] if isinstance(value, list) else (value or {}).get(part)
            names[name] = str(value)
        return found

    async def _ask(self, step: Step, names: dict[str, str]) -> tuple[int, Any, Any]:
        method, path = _fill(step["do"], names).split(" ", 1)
        body = step.get("body")
        filled = _fill(body, names)
        data = filled if body is None or isinstance(body, str) else json.dumps(filled)
        headers = {**self._headers, "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        headers.update(_fill(step.get("headers") or {}, names))
        headers = {name: value for name, value in headers.items() if value is not None}
        async with self._http.request(method, self._base + path, data=data, headers=headers) as answer:
            text = await answer.text()
            try:
                return answer.status, answer.headers, json.loads(text)
            except ValueError:
                return answer.status, answer.headers, text

    async def _watch(self, step: Step, names: dict[str, str]) -> list[str]:
        seen: list[Any] = []
        path, problems = _fill(step["watch"], names), []
        wanted = [_event(_fill(each, names)) for each in step.get("events") or ()]

        async def read() -> None:
            timeout = aiohttp.ClientTimeout(total=None)
            headers = {**self._headers, **(step.get("headers") or {})}
            async with self._http.get(self._base + path, headers=headers, timeout=timeout) as answer:
                async for line in answer.content:
                    event = json.loads(line)
                    notes = event["object"].get("metadata", {}).get("annotations") or {}
                    if event["type"] != "BOOKMARK" or "k8s.io/initial-events-end" in notes or step.get("bookmarks"):
                        seen.append(event)

        reading = asyncio.create_task(read())
        await asyncio.sleep(SETTLE)
        for inner in step.get("meanwhile") or ():
            problems += await self._step(inner, names)
        for _ in range(60):
            if reading.done() or ("events" in step and len(seen) >= len(wanted) and not step.get("ends")):
                break
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)  # one too many would come now
        ended = reading.done()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        if "events" in step:
            problems += [f"watch {path}: {p}" for p in differences(wanted, seen, "events")]
        if step.get("ends") is not None and ended is not step["ends"]:
            problems.append(f"watch {path}: {'ended' if ended else 'did not end'}")
        return problems


def _event(wanted: Any) -> Any:
    """``[ADDED, name]`` in full."""
    if isinstance(wanted, list):
        type_, about = wanted
        return {"type": type_, "object": about if isinstance(about, dict) else {"metadata": {"name": about}}}
    return wanted


def differences(wanted: Any, got: Any, where: str) -> list[str]:
    """Where ``got`` does not hold what is wanted (see the module's docstring): pure."""
    if wanted is None or wanted == "<any>":
        return [f"{where} is missing"] if wanted == "<any>" and got is None else []
    if wanted == "<none>":
        return [] if got is None else [f"{where} is {_short(got)}, expected nothing there"]
    if isinstance(wanted, str) and wanted.startswith("~"):
        found = isinstance(got, str) and re.search(wanted[1:], got)
        return [] if found else [f"{where} is {_short(got)}, not like {wanted}"]
    if isinstance(wanted, dict):
        if not isinstance(got, dict):
            return [f"{where} is {_short(got)}, expected a map"]
        return [d for key, value in wanted.items() for d in differences(value, got.get(key), f"{where}.{key}")]
    if isinstance(wanted, list):
        if not isinstance(got, list) or len(got) != len(wanted):
            return [f"{where} is {_short(got)}, expected {len(wanted)} items like {_short(wanted)}"]
        return [d for i, (a, b) in enumerate(zip(wanted, got, strict=True)) for d in differences(a, b, f"{where}[{i}]")]
    return [] if wanted == got else [f"{where} is {_short(got)}, expected {_short(wanted)}"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 400 else text[:400] + "..."


def _fill(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, str):
        for name, real in names.items():
            value = value.replace("{" + name + "}", real)
        return re.sub(r"\{x:(\d+)\}", lambda match: "x" * int(match[1]), value)
    if isinstance(value, dict):
        return {_fill(key, names): _fill(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [_fill(each, names) for each in value]
    return value


def _tls(cluster: dict[str, Any], user: dict[str, Any], home: Path) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif "certificate-authority-data" in cluster:
        context.load_verify_locations(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    elif "certificate-authority" in cluster:
        context.load_verify_locations(cafile=home / cluster["certificate-authority"])
    if "client-certificate-data" in user:
        with tempfile.TemporaryDirectory() as directory:
            certificate, key = Path(directory, "crt"), Path(directory, "key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.touch(0o600)
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            context.load_cert_chain(certificate, key)
    elif "client-certificate" in user:
        context.load_cert_chain(home / user["client-certificate"], home / user["client-key"])
    return context
