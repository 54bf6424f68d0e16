"""kopf as a peer: the same work (labelled ConfigMap → Pod of the same name, owned by it), written in the idiom of kopf.

``kopf_operator`` starts one process per cluster (kopf handles one cluster): ``kopf run --standalone -A`` with this file.
Settings are kopf's defaults, except that it posts no events, like the other systems. It creates Pods through a bare aiohttp
session, so that kopf is measured and not a client library.
"""

import asyncio
import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from raycp.bench.ports import free_port

LABEL_VALUE = "kopf"


def _session() -> Any:
    """An aiohttp session for the kubeconfig in ``$KUBECONFIG``."""
    import base64

    import aiohttp
    import yaml

    config = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    context = next(c["context"] for c in config["contexts"] if c["name"] == config["current-context"])
    cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
    user = next(u["user"] for u in config["users"] if u["name"] == context["user"])

    def pem(holder: dict[str, str], key: str) -> str | None:
        if f"{key}-data" in holder:
            return base64.b64decode(holder[f"{key}-data"]).decode()
        return Path(holder[key]).read_text() if key in holder else None

    tls = ssl.create_default_context(cadata=pem(cluster, "certificate-authority"))
    certificate, private = pem(user, "client-certificate"), pem(user, "client-key")
    if certificate and private:
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as both:
            both.write(certificate + "\n" + private)
            both.flush()
            tls.load_cert_chain(both.name)
    headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
    return aiohttp.ClientSession(cluster["server"], headers=headers, connector=aiohttp.TCPConnector(ssl=tls, limit=64))


def register() -> None:
    """The operator."""
    import kopf

    from raycp.bench.workload import LABEL, WORK_MS, pod_for

    state: dict[str, Any] = {}

    @kopf.on.startup()  # type: ignore[untyped-decorator]
    async def start(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        state["session"] = _session()

    @kopf.on.cleanup()  # type: ignore[untyped-decorator]
    async def stop(**_: Any) -> None:
        await state["session"].close()

    @kopf.on.create("v1", "configmaps", labels={LABEL: LABEL_VALUE})  # type: ignore[untyped-decorator]
    async def work(name: str, namespace: str, annotations: Any, **_: Any) -> None:
        milliseconds = annotations.get(WORK_MS)
        if milliseconds:
            await asyncio.sleep(float(milliseconds) / 1000)
        pod = pod_for(name, {LABEL: LABEL_VALUE})
        kopf.append_owner_reference(pod)
        async with state["session"].post(f"/api/v1/namespaces/{namespace}/pods", json=pod) as answer:
            if answer.status not in (201, 409):
                raise kopf.TemporaryError(f"the Pod was refused with {answer.status}", delay=1)


def _tail(log: Path) -> str:
    return log.read_text()[-2000:]


@contextlib.asynccontextmanager
async def kopf_operator(kubeconfig: Path, log: Path, ready: float = 30.0) -> AsyncIterator[int]:
    """kopf in a process of its own on one cluster, for the duration of the block; its pid. Raises ``RuntimeError`` if it does not
    start."""
    import aiohttp

    port = free_port()
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "kopf", "run", "--standalone", "-A", "--quiet", "-m", "raycp.bench.peer_kopf_run",
            "--liveness", f"http://127.0.0.1:{port}/healthz",
            env={**os.environ, "KUBECONFIG": str(kubeconfig)}, stdout=out, stderr=out,
        )  # fmt: skip
    try:
        deadline = asyncio.get_running_loop().time() + ready
        async with aiohttp.ClientSession() as session:
            while True:
                if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                    raise RuntimeError(f"kopf did not start: {_tail(log)}")
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"http://127.0.0.1:{port}/healthz") as answer:
                        if answer.status == 200:
                            break
                await asyncio.sleep(0.1)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
