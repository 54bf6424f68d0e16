"""From the context of a kubeconfig to a ``Login``, with kubectl's precedence (client-go, ``tools/clientcmd`` and ``transport``).

- Without TLS no credential is sent, and no plugin runs.
- A token, basic authentication or a client certificate come before a plugin and ``auth-provider``; a token file before a token.
- A user without any credential is refused: kubectl would ask for a name and a password.

Whatever cannot be read or is contradictory becomes a ``ConnectError`` (law 12).
"""

import asyncio
import base64
import os
from urllib.parse import urlsplit

from raycp.base.regular_files import read_regular
from raycp.config.kubeconfig import KubeconfigError, SelectedContext, read_kubeconfigs
from raycp.config.kubeconfig_model import KubeconfigCluster, KubeconfigProvider, KubeconfigUser
from raycp.kube.connect import ConnectSpec
from raycp.kube.errors import ConnectError
from raycp.kube.exec_credential import ExecCredential, exec_credential, exec_problem
from raycp.kube.exec_plugin import PLUGIN_SECONDS, PluginError
from raycp.kube.login import Login, impersonation, server_url
from raycp.kube.oidc import OidcTokens
from raycp.kube.proxies import environment_proxy, parse_proxy
from raycp.kube.tls import CREDENTIAL_BYTES, TlsPem, pem_text

_PROVIDER_SECONDS = PLUGIN_SECONDS + 5.0  # a plugin's own deadline has the better message
_REMEDY = "Check it with `kubectl --context ... get --raw /version`"


async def read_kubeconfig(spec: ConnectSpec, oidc: OidcTokens, wall: float) -> Login:
    """The context of ``spec`` from its kubeconfig files, at Unix time ``wall``. Raises ``ConnectError``."""
    files = spec.files()
    try:
        known = read_kubeconfigs(files)
        context = known.select(spec.context)
    except KubeconfigError as error:
        raise ConnectError(spec.name, error.problem, error.remedy[:1].upper() + error.remedy[1:]) from None
    reading = _Reading(spec.name, context, known.files)
    try:
        async with asyncio.timeout(_PROVIDER_SECONDS):
            return await reading.login(oidc, wall, insecure=spec.insecure)
    except TimeoutError:
        raise reading.refused(f"its identity provider gave no credential within {_PROVIDER_SECONDS:g} s") from None


class _Reading:
    """``watched``: the files that were read so far."""

    def __init__(self, cluster: str, context: SelectedContext, files: list[str]) -> None:
        self._name = cluster
        self._context = context
        self._files = os.pathsep.join(files)
        self.watched = list(files)

    def refused(self, problem: str, remedy: str = _REMEDY) -> ConnectError:
        return ConnectError(self._name, f"context {self._context.name!r} of {self._files} cannot be used: {problem}", remedy)

    async def login(self, oidc: OidcTokens, wall: float, *, insecure: bool) -> Login:
        cluster, user = self._context.cluster, self._context.user
        problem = _cluster_problem(cluster) or _user_problem(user)
        if problem:
            raise self.refused(problem)
        try:
            server = server_url(cluster.server)
            proxy = self._proxy(cluster, server)
            headers = impersonation(user)
        except ValueError as error:
            raise self.refused(str(error)) from None
        pem = self._pem(cluster, user)
        verify = not (cluster.insecure_skip_tls_verify or insecure)
        server_name = cluster.tls_server_name or None
        if urlsplit(server).scheme != "https":
            return Login(server=server, proxy=proxy, headers=headers, watched=tuple(self.watched))
        if pem.ca and cluster.insecure_skip_tls_verify and not insecure:
            raise self.refused("its cluster has a certificate authority and insecure-skip-tls-verify: keep one")
        if user.auth_provider is not None and user.auth_provider.name != "oidc":
            problem = f"its auth provider {user.auth_provider.name!r} does not exist any more"
            raise self.refused(problem, "Use an exec plugin, such as gke-gcloud-auth-plugin or kubelogin")
        authorization, expires = self._authorization(user), None
        if not authorization and not pem.cert:
            given = await self._ask(cluster, user, pem.ca, oidc, wall)
            authorization, expires = f"Bearer {given.token}" if given.token else None, given.expires
            pem = TlsPem(pem.ca, given.cert or None, given.key or None)
        elif not authorization and user.auth_provider is not None:
            given = await self._provided(user.auth_provider, oidc, wall)
            authorization, expires = f"Bearer {given.token}", given.expires
        return Login(
            server=server,
            pem=pem,
            verify=verify,
            server_name=server_name,
            proxy=proxy,
            authorization=authorization,
            headers=headers,
            watched=tuple(self.watched),
            expires=expires,
        )

    def _proxy(self, cluster: KubeconfigCluster, server: str) -> str | None:
        """Raises ``ValueError``."""
        if cluster.proxy_url:
            if parse_proxy(cluster.proxy_url).scheme == "socks5h":
                raise ValueError("proxy-url has the scheme socks5h: write socks5, which resolves names at the proxy as well")
            return cluster.proxy_url
        url = urlsplit(server)
        return environment_proxy(url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80), os.environ)

    def _pem(self, cluster: KubeconfigCluster, user: KubeconfigUser) -> TlsPem:
        ca = self._either(cluster.certificate_authority_data, cluster.certificate_authority, "certificate-authority")
        cert = self._either(user.client_certificate_data, user.client_certificate, "client-certificate")
        key = self._either(user.client_key_data, user.client_key, "client-key") if cert else None
        return TlsPem(ca, cert, key)

    def _either(self, data: bytes, path: str, what: str) -> str | None:
        content = data or (self._file(path, what) if path else b"")
        return pem_text(content) if content or path else None

    def _file(self, path: str, what: str) -> bytes:
        self.watched.append(path)
        try:
            return read_regular(path, CREDENTIAL_BYTES)
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "its name is none"
            raise self.refused(f"its {what} {path} cannot be read on {os.uname().nodename}: {why}") from None

    def _authorization(self, user: KubeconfigUser) -> str | None:
        """Of a token or of basic authentication. A token file counts before a token, unless there is no token in it."""
        token = user.token
        if user.token_file:
            try:
                token = self._file(user.token_file, "tokenFile").decode("utf-8", "replace").strip() or token
            except ConnectError:
                if not token:
                    raise
        if user.username and (token or user.token_file):
            raise self.refused("its user has both a token and a name with a password", "Keep one of them")
        if token:
            return f"Bearer {token}"
        if user.username:
            return f"Basic {base64.b64encode(f'{user.username}:{user.password}'.encode()).decode()}"
        return None

    async def _ask(
        self, cluster: KubeconfigCluster, user: KubeconfigUser, ca: str | None, oidc: OidcTokens, wall: float
    ) -> ExecCredential:
        if user.exec_ is not None:
            try:
                return await exec_credential(user.exec_, cluster, ca)
            except PluginError as error:
                problem = f"exec plugin {user.exec_.command!r} gave no credential: {error}"
                remedy = f"Run it by hand on {os.uname().nodename}, without a terminal; it must be on PATH there"
                raise ConnectError(self._name, problem, remedy) from None
        if user.auth_provider is not None:
            return await self._provided(user.auth_provider, oidc, wall)
        who, where = f"user {self._context.user_name!r}", f"context {self._context.name!r} of {self._files}"
        if not self._context.known_user:
            problem = f"{where} names the {who}, which does not exist" if self._context.user_name else f"{where} names no user"
            raise ConnectError(self._name, problem, "Name an entry of `users`")
        raise ConnectError(self._name, f"{who} in {where} has no credential", "Add a token, a client certificate or exec to it")

    async def _provided(self, provider: KubeconfigProvider, oidc: OidcTokens, wall: float) -> ExecCredential:
        ca: str | None = None
        if provider.text("idp-certificate-authority-data"):
            try:
                ca = pem_text(base64.b64decode(provider.text("idp-certificate-authority-data")))
            except ValueError:
                raise self.refused("its idp-certificate-authority-data is not base64") from None
        elif provider.text("idp-certificate-authority"):
            ca = pem_text(self._file(provider.text("idp-certificate-authority"), "idp-certificate-authority"))
        try:
            token = await oidc.get(self._name, provider, ca, wall)
        except PluginError as error:
            raise self.refused(f"auth provider 'oidc' gave no credential: {error}") from None
        return ExecCredential(token.text, expires=token.expires)


def _cluster_problem(cluster: KubeconfigCluster) -> str:
    if not cluster.server:
        return "its cluster has no server"
    if cluster.certificate_authority and cluster.certificate_authority_data:
        return "its cluster has both certificate-authority and certificate-authority-data: keep one"
    return ""


def _user_problem(user: KubeconfigUser) -> str:
    if user.token and (user.username or user.password):
        return "its user has both a token and a name with a password: keep one"
    if user.client_certificate or user.client_certificate_data:
        if user.client_certificate and user.client_certificate_data:
            return "its user has both client-certificate and client-certificate-data: keep one"
        if user.client_key and user.client_key_data:
            return "its user has both client-key and client-key-data: keep one"
        if not (user.client_key or user.client_key_data):
            return "its user has a client certificate without client-key or client-key-data"
    if user.exec_ is None:
        return ""
    if user.auth_provider is not None:
        return "its user has both exec and auth-provider: keep one"
    return exec_problem(user.exec_)
