"""The service account of the Pod that this process runs in."""

import os
from pathlib import Path

from raycp.base.regular_files import read_regular
from raycp.kube.errors import ConnectError
from raycp.kube.login import Login
from raycp.kube.proxies import environment_proxy
from raycp.kube.tls import CREDENTIAL_BYTES, TlsPem, pem_text

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts token and CA."""

_REMEDY = "inCluster works inside a Pod with a mounted service account token; elsewhere use kubeconfig"


def read_in_cluster(cluster: str) -> Login:
    """Raises ``ConnectError``."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port.isdecimal():
        raise ConnectError(cluster, "in-cluster credentials are missing: KUBERNETES_SERVICE_HOST and _PORT are not set", _REMEDY)
    paths = [str(SERVICE_ACCOUNT / name) for name in ("token", "ca.crt")]
    found: list[bytes] = []
    for path in paths:
        try:
            found.append(read_regular(path, CREDENTIAL_BYTES))
        except OSError as error:
            problem = f"in-cluster credentials are missing: {path}: {error.strerror}"
            raise ConnectError(cluster, problem, _REMEDY) from None
    try:
        proxy = environment_proxy("https", host, int(port), os.environ)
    except ValueError as error:
        raise ConnectError(cluster, str(error), "Correct HTTPS_PROXY") from None
    token = found[0].decode("utf-8", "replace").strip()
    return Login(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        pem=TlsPem(ca=pem_text(found[1])),
        proxy=proxy,
        authorization=f"Bearer {token}" if token else None,
        watched=tuple(paths),
    )
