"""What a row of the table of kubeconfigs is: the files of one setting, and whether kubectl gets in with them.

In texts, ``<url:main>`` is the URL of a server of ``doormen``, ``<port:main>`` its port, ``<pem:ca>`` a PEM text, ``<64:ca>`` the
same in base64, ``<indented:ca>`` the same with four spaces before each line but the first, ``<folder>`` where the files are.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from doormen import FAR, TOKEN, Doormen

V1 = "client.authentication.k8s.io/v1"
BETA = "client.authentication.k8s.io/v1beta1"
RAW = ("get", "--raw=/version")  # leaves out a path in the server's URL
VERSION = ("version", "-o", "json")  # asks without credentials where other commands ask for a name and a password


@dataclass(frozen=True)
class Row:
    """``user`` and ``cluster`` are the entries of the default file ``config``, whose place ``files`` may take. ``enters``: kubectl
    gets an answer to ``command``. A file whose name has ``plugin`` in it can be run.
    """

    name: str
    enters: bool
    user: Any = field(default_factory=lambda: {"token": TOKEN})
    cluster: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    kubeconfig: str = "config"
    command: tuple[str, ...] = RAW

    def write(self, folder: Path, doormen: Doormen) -> dict[str, str]:
        """All files into ``folder``; the environment to play it in."""
        for name, text in {"config": dump(self.user, self.cluster), **self.files}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(filled(text, doormen, folder))
            path.chmod(0o755 if "plugin" in name else 0o600)
        return {"KUBECONFIG": self.kubeconfig, **{key: filled(value, doormen, folder) for key, value in self.env.items()}}


def dump(user: Any = None, cluster: Mapping[str, Any] | None = None, **change: Any) -> str:
    """A kubeconfig as YAML; what is None at the top or in the cluster is left out. ``user`` None: the good token."""
    entry = {"server": "<url:main>", "certificate-authority-data": "<64:ca>", **(cluster or {})}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {key: value for key, value in entry.items() if value is not None}}],
        "users": [{"name": "u", "user": {"token": TOKEN} if user is None else user}],
        **change,
    }
    return yaml.safe_dump({key: value for key, value in content.items() if value is not None}, width=10_000, sort_keys=False)


def filled(text: str, doormen: Doormen, folder: Path) -> str:
    def value(found: re.Match[str]) -> str:
        kind, name = found.groups()
        if kind in ("port", "url"):
            port = str(doormen.ports[name])
            scheme = "http" if name == "plain" else "https"
            return port if kind == "port" else f"{scheme}://127.0.0.1:{port}"
        pem = doormen.texts[name]
        if kind == "64":
            return base64.b64encode(pem.encode()).decode()
        return pem.replace("\n", "\n    ") if kind == "indented" else pem

    return re.sub(r"<(url|port|pem|64|indented):([a-z-]+)>", value, text.replace("<folder>", str(folder)))


def plugin(status: str, version: str = V1, before: str = "") -> dict[str, str]:
    """A plugin that prints this status, as files."""
    answer = f'{{"apiVersion": "{version}", "kind": "ExecCredential", "status": {status}}}'
    return {"plugin": f"#!/bin/sh\n{before}\ncat <<END\n{answer}\nEND\n"}


def expires(when: str) -> dict[str, str]:
    """A plugin whose token ends then."""
    return plugin(f'{{"token": "{TOKEN}", "expirationTimestamp": "{when}"}}')


PRINTS_CERT = {
    "plugin": "#!/bin/sh\ncat <folder>/answer\n",
    "answer": f"apiVersion: {V1}\nkind: ExecCredential\nstatus:\n  clientCertificateData: |\n    <indented:cert>\n"
    "  clientKeyData: |\n    <indented:key>\n",
}
"""A plugin that prints a client certificate, as YAML."""


CLUSTER_INFO = """
has() { case "$KUBERNETES_EXEC_INFO" in *"$1"*) ;; *) echo "no $1" >&2; exit 1;; esac; }
has '"server":"<url:main>"'
has '"certificate-authority-data":"<64:ca>"'
has '"tls-server-name":"localhost"'
A=$(echo "$KUBERNETES_EXEC_INFO" | sed 's/.*"config":{"audience":"\\([a-z-]*\\)"}.*/\\1/')"""
"""What a plugin with ``provideClusterInfo`` checks before it prints ``$A``, the audience in the cluster's extension."""


def runs(command: str = "./plugin", **change: Any) -> dict[str, Any]:
    """A user with this plugin."""
    return {"exec": {"apiVersion": V1, "command": command, "interactiveMode": "Never", **change}}


def oidc(**config: str) -> dict[str, Any]:
    """A user of an OpenID provider; ``_`` stands for ``-``."""
    given = {key.replace("_", "-"): value for key, value in config.items()}
    base = {"idp-issuer-url": "<url:issuer>", "client-id": "c", "idp-certificate-authority-data": "<64:ca>"}
    return {"auth-provider": {"name": "oidc", "config": {**base, **given}}}


def server(url: str = "<url:main>", ca: str | None = "<64:ca>", **change: Any) -> dict[str, Any]:
    """A cluster; ``_`` stands for ``-``."""
    given = {key.replace("_", "-"): value for key, value in change.items()}
    return {"server": url, "certificate-authority-data": ca, **given}


def far(proxy: str | None = None, **change: Any) -> dict[str, Any]:
    """A cluster that only the proxies reach."""
    return server(f"https://{FAR}:6443", **change, **({} if proxy is None else {"proxy_url": proxy}))
