"""The certificate with which the members of one fleet connect between nodes: made with the fleet's secret, for as long as that."""

from datetime import UTC, datetime
from typing import Any

from raycp.base.certificates import signed
from raycp.protocol.certificate import ChannelCertificate

_DURING = (datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
"""No end (RFC 5280, 4.1.2.5): it ends with the fleet, and nodes whose clocks differ agree on it."""


def new_certificate(fleet: str) -> ChannelCertificate:
    """An authority, and the one certificate that it signs before its key is forgotten."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(what: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{what} {fleet}"[:64])])

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer = name("raycp channels of")
    authority = signed(issuer, issuer, root, root, _DURING, authority=True, path_length=0)
    certificate = signed(name("raycp member of"), authority.subject, key, root, _DURING, usages=usages)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ChannelCertificate(
        authority.public_bytes(pem).decode(), certificate.public_bytes(pem).decode(), private.decode()
    )
