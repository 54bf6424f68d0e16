"""TLS of connections between nodes, both ends with the fleet's certificate."""

import ssl
import tempfile

from raycp.protocol.certificate import ChannelCertificate


def caller_context(certificate: ChannelCertificate) -> ssl.SSLContext:
    """TLS for those who call. The name in the certificate is not checked: it is the fleet's, not a host's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return _loaded(context, certificate)


def receiver_context(certificate: ChannelCertificate) -> ssl.SSLContext:
    """TLS for those who are called: without a certificate of this fleet there is no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0  # nothing is resumed
    return _loaded(context, certificate)


def _loaded(context: ssl.SSLContext, certificate: ChannelCertificate) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=certificate.authority)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl loads chains from files only; mode is 0600
        file.write(certificate.certificate + certificate.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context
