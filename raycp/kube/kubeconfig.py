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

from msgspec import structs

from raycp.base.regular_files import read_regular
from raycp.config.kubeconfig import KubeconfigError, SelectedContext, read_kubeconfigs
from raycp.config.kubeconfig_model import KubeconfigCluster, KubeconfigProvider, KubeconfigUser
from raycp.kube.connect import ConnectSpec, UserSource
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
    """The context of ``spec`` from its kubeconfig files, at Unix time ``wall``; its server alone where ``spec`` names another
    user. Raises ``ConnectError``.
    """
    reading = _reading(spec.name, spec.files(), spec.context)
    login = reading.server(insecure=spec.insecure)
    if spec.user is None:
        return await reading.identified(login, reading.cluster, oidc, wall)
    return await as_user(spec.name, spec.user, login, oidc, wall, reading.cluster)


async def as_user(
    name: str, user: UserSource, login: Login, oidc: OidcTokens, wall: float, cluster: KubeconfigCluster | None = None
) -> Login:
    """The server of ``login`` with another user. ``cluster`` is what a plugin is told of the server. Raises ``ConnectError``."""
    if cluster is None:
        cluster = KubeconfigCluster.model_validate(
            {"server": login.server, "tls-server-name": login.server_name, "insecure-skip-tls-verify": not login.verify}
        )
    server = structs.replace(login, pem=TlsPem(ca=login.pem.ca), authorization=None, headers=(), expires=None)
    return await _reading(name, user.files(), user.context).identified(server, cluster, oidc, wall)


def _reading(name: str, files: list[str], context: str | None) -> "_Reading":
    try:
        known = read_kubeconfigs(files)
        return _Reading(name, known.select(context), known.files, files)
    except KubeconfigError as error:
        raise ConnectError(name, error.problem, error.remedy[:1].upper() + error.remedy[1:]) from None


class _Reading:
    """One context. ``watched``: the files that were read so far, or looked for."""

    def __init__(self, name: str, context: SelectedContext, files: list[str], wanted: list[str]) -> None:
        self._name = name
        self._context = context
        self._files = os.pathsep.join(files)
        self.cluster = context.cluster
        self.watched = list(wanted)

    def refused(self, problem: str, remedy: str = _REMEDY) -> ConnectError:
        return ConnectError(self._name, f"context {self._context.name!r} of {self._files} cannot be used: {problem}", remedy)

    def server(self, *, insecure: bool) -> Login:
        """Where the server is, and how it is recognised."""
        cluster = self.cluster
        problem = _cluster_problem(cluster)
        if problem:
            raise self.refused(problem)
        try:
            server = server_url(cluster.server)
            proxy = self._proxy(cluster, server)
        except ValueError as error:
            raise self.refused(str(error)) from None
        ca = self._either(cluster.certificate_authority_data, cluster.certificate_authority, "certificate-authority")
        if ca and cluster.insecure_skip_tls_verify and not insecure and _is_tls(server):
            raise self.refused("its cluster has a certificate authority and insecure-skip-tls-verify: keep one")
        return Login(
            server=server,
            pem=TlsPem(ca=ca),
            verify=not (cluster.insecure_skip_tls_verify or insecure),
            server_name=cluster.tls_server_name or None,
            proxy=proxy,
            watched=tuple(self.watched),
        )

    async def identified(self, login: Login, cluster: KubeconfigCluster, oidc: OidcTokens, wall: float) -> Login:
        """``login`` as the context's user."""
        try:
            async with asyncio.timeout(_PROVIDER_SECONDS):
                found = await self._identified(login, cluster, oidc, wall)
        except TimeoutError:
            raise self.refused(f"its identity provider gave no credential within {_PROVIDER_SECONDS:g} s") from None
        return structs.replace(found, watched=(*login.watched, *self.watched))

    async def _identified(self, login: Login, cluster: KubeconfigCluster, oidc: OidcTokens, wall: float) -> Login:
        user = self._context.user
        problem = _user_problem(user)
        if problem:
            raise self.refused(problem)
        try:
            headers = impersonation(user)
        except ValueError as error:
            raise self.refused(str(error)) from None
        cert = self._either(user.client_certificate_data, user.client_certificate, "client-certificate")
        key = self._either(user.client_key_data, user.client_key, "client-key") if cert is not None else None
        if not _is_tls(login.server):
            return structs.replace(login, headers=headers)
        if user.auth_provider is not None and user.auth_provider.name != "oidc":
            problem = f"its auth provider {user.auth_provider.name!r} does not exist any more"
            raise self.refused(problem, "Use an exec plugin, such as gke-gcloud-auth-plugin or kubelogin")
        given = ExecCredential()
        authorization = self._authorization(user)
        if not authorization and cert is None:
            given = await self._ask(cluster, login.pem.ca, oidc, wall)
        elif not authorization and user.auth_provider is not None:
            token = await self._provided(user.auth_provider, oidc, wall)
            given = structs.replace(given, token=token.token, expires=token.expires)
        if cert is None:
            cert, key = given.cert or None, given.key or None
        return structs.replace(
            login,
            pem=TlsPem(login.pem.ca, cert, key),
            authorization=authorization or (f"Bearer {given.token}" if given.token else None),
            headers=headers,
            expires=given.expires,
        )

    def _proxy(self, cluster: KubeconfigCluster, server: str) -> str | None:
        """Raises ``ValueError``."""
        if cluster.proxy_url:
            if parse_proxy(cluster.proxy_url).scheme == "socks5h":
                raise ValueError("proxy-url has the scheme socks5h: write socks5, which resolves names at the proxy as well")
            return cluster.proxy_url
        url = urlsplit(server)
        return environment_proxy(url.scheme, url.hostname or "", url.port or (443 if url.scheme == "https" else 80), os.environ)

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

    async def _ask(self, cluster: KubeconfigCluster, ca: str | None, oidc: OidcTokens, wall: float) -> ExecCredential:
        user = self._context.user
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


def _is_tls(server: str) -> bool:
    return urlsplit(server).scheme == "https"


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
