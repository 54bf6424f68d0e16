"""The certificate with which the members of one fleet connect between nodes: made with the fleet's secret, for as long as that."""

from datetime import UTC, datetime
from typing import Any

from raycp.protocol.certificate import ChannelCertificate

_FROM = datetime(2020, 1, 1, tzinfo=UTC)
_UNTIL = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
"""No end (RFC 5280, 4.1.2.5): it ends with the fleet, and nodes whose clocks differ agree on it."""


def new_certificate(fleet: str) -> ChannelCertificate:
    """An authority, and the one certificate that it signs before its key is forgotten."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(what: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{what} {fleet}"[:64])])

    root, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority = _signed(name("raycp channels of"), name("raycp channels of"), root, root, authority=True)
    certificate = _signed(name("raycp member of"), authority.subject, key, root, authority=False)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return ChannelCertificate(
        authority.public_bytes(pem).decode(), certificate.public_bytes(pem).decode(), private.decode()
    )


def _signed(subject: Any, issuer: Any, key: Any, by: Any, *, authority: bool) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    usages = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_FROM)
        .not_valid_after(_UNTIL)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, authority, authority, False, False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(by, SHA256())
