"""A kubeconfig for one embedded cluster, as text."""

import base64

import msgspec


def kubeconfig(name: str, server: str, ca_pem: str, token: str) -> str:
    """YAML (JSON is YAML) with the authority inline and the token of the administrator."""
    doc = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode(),
                },
            }
        ],
        "users": [{"name": f"{name}-admin", "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": f"{name}-admin", "namespace": "default"}}],
        "current-context": name,
        "preferences": {},
    }
    return msgspec.json.format(msgspec.json.encode(doc), indent=2).decode() + "\n"
