"""The id token of auth-provider ``oidc``, refreshed through the ``kubernetes`` package (imported on first use: it takes 0.4 s)."""

import base64
import binascii
from typing import Any

import msgspec

from raycp.config.kubeconfig_model import KubeconfigProvider
from raycp.kube.exec_plugin import PluginError
from raycp.kube.tls import TlsPem, tls_context

_LATEST = 10.0  # seconds of life below which client-go takes a token for expired
_AHEAD = 150.0  # seconds before that in which it is renewed: two checks of ``Credentials`` fall into them


class IdToken(msgspec.Struct, frozen=True):
    """A token, and the Unix time at which it ends."""

    text: str
    expires: float

    def __repr__(self) -> str:
        return "IdToken(<hidden>)"


class OidcTokens:
    """Renews id tokens, and keeps what it was given: the files are not written to, and a refresh token may be good for once."""

    def __init__(self) -> None:
        self._renewed: dict[tuple[str, ...], tuple[IdToken, str]] = {}

    async def get(self, cluster: str, provider: KubeconfigProvider, ca: str | None, wall: float) -> IdToken:
        """A token that is valid at Unix time ``wall``. ``ca`` (PEM) is the issuer's. Raises ``PluginError``, ``ConnectError``."""
        issuer, client = provider.text("idp-issuer-url"), provider.text("client-id")
        if not issuer or not client:
            raise PluginError("idp-issuer-url and client-id must be given")
        refresh = provider.text("refresh-token")
        key = (issuer, client, provider.text("id-token"), refresh)
        known, latest = self._renewed.get(key, (_id_token(provider.text("id-token")), refresh))
        if known is not None and known.expires - wall > (_AHEAD if latest else _LATEST):
            return known
        try:
            if not latest:
                raise PluginError("its id-token has expired or is none, and there is no refresh-token: log in again")
            answer = await self._refresh(cluster, provider, latest, ca)
        except PluginError:
            if known is not None and known.expires - wall > _LATEST:
                return known
            raise
        text = answer.get("id_token")
        renewed = _id_token(text if isinstance(text, str) else "")
        if renewed is None:
            raise PluginError("the issuer's answer has no id_token")
        following = answer.get("refresh_token")
        self._renewed = {key: (renewed, following if isinstance(following, str) and following else latest)}
        return renewed

    async def _refresh(self, cluster: str, provider: KubeconfigProvider, refresh: str, ca: str | None) -> dict[str, Any]:
        from kubernetes.aio.config.openid import OpenIDRequestor

        # As its CA it passes on any TLS context; without one it would not verify the issuer's certificate.
        context = tls_context(cluster, TlsPem(ca=ca), verify=True)
        issuer, client, secret = (provider.text(key) for key in ("idp-issuer-url", "client-id", "client-secret"))
        try:
            answer = await OpenIDRequestor(client, secret, issuer, context).refresh_token(refresh)
        except Exception as error:  # its text may quote the request
            raise PluginError(f"the issuer gave no new token ({type(error).__name__}): log in again if this stays so") from None
        return answer if isinstance(answer, dict) else {}


def _id_token(text: str) -> IdToken | None:
    """A JWT with an expiry; None if it is none."""
    parts = text.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=dict[str, Any])
        expires = claims.get("exp")
        return IdToken(text, float(expires)) if isinstance(expires, int | float) else None
    except (msgspec.MsgspecError, binascii.Error, ValueError, OverflowError, RecursionError):
        return None
