"""The TLS context of a cluster's client."""

import contextlib
import os
import ssl
import tempfile

import msgspec

from raycp.kube.errors import ConnectError


class TlsFiles(msgspec.Struct, frozen=True):
    """Certificates by file name, as a kubeconfig or a Pod's service account has them."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def paths(self) -> list[str]:
        return [path for path in (self.ca, self.cert, self.key) if path]


class TlsPem(msgspec.Struct, frozen=True):
    """Certificates as PEM text."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return "TlsPem(<hidden>)"


def tls_context(cluster: str, source: TlsFiles | TlsPem, *, verify: bool) -> ssl.SSLContext:
    """A client context with the system's CAs where ``source`` names none. Raises ``ConnectError``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if source.ca:
            if isinstance(source, TlsPem):
                context.load_verify_locations(cadata=source.ca)
            else:
                context.load_verify_locations(cafile=source.ca)
        elif verify:
            context.load_default_certs()
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConnectError(
            cluster,
            f"the CA certificate cannot be read: {safe_text(error)}",
            "It must be PEM, as in certificate-authority-data decoded",
        ) from None
    if source.cert and source.key:
        try:
            if isinstance(source, TlsPem):
                _load_pair(context, source.cert, source.key)
            else:
                context.load_cert_chain(source.cert, source.key)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise ConnectError(
                cluster,
                f"the client certificate cannot be used: {safe_text(error)}",
                "Certificate and key must be PEM and belong together",
            ) from None
    return context


def safe_text(error: BaseException) -> str:
    """The text of an error, cut: loaders quote documents, and a document may contain a secret."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    text = text.split("{", 1)[0]
    if any(word in text.lower() for word in ("token", "key-data", "password", "secret")) and ":" in text:
        text = text.split(":", 1)[0]
    return text[:160]


def _load_pair(context: ssl.SSLContext, cert_pem: str, key_pem: str) -> None:
    """OpenSSL loads a key only from a file: write one that no other user can read, and delete it at once."""
    handle, path = tempfile.mkstemp(prefix="raycp-")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(cert_pem.rstrip() + "\n" + key_pem)
        context.load_cert_chain(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
