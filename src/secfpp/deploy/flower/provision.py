"""What a rehearsal needs of TLS and ports: an authority, and a certificate for this machine's loopback."""

from __future__ import annotations

import ipaddress
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from secfpp.storage import atomic_write

LOOPBACK = "127.0.0.1"
_DAYS = 30


def free_port() -> int:
    """A TCP port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def make_certificates(folder: Path) -> Path:
    """Make an authority and a certificate for this machine's loopback in `folder`, if there are none.

    Returns:
        The authority's certificate, a file. Its private key is thrown away.
    """
    if (folder / "ca.crt").exists():
        return folder / "ca.crt"
    authority, server = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    name = "SecFPP rehearsal"
    loopback = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(LOOPBACK))])
    own = _issued(name, name, authority, authority, x509.BasicConstraints(ca=True, path_length=0))
    files = {
        "server.key": server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "server.crt": _issued("localhost", name, server, authority, loopback),
        "ca.crt": own,
    }
    for file, content in files.items():
        atomic_write(folder / file, content)
    return folder / "ca.crt"


def _issued(
    subject: str, issuer: str, key: EllipticCurvePrivateKey, by: EllipticCurvePrivateKey, more: x509.ExtensionType
) -> bytes:
    """A certificate, PEM."""
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
        .add_extension(more, critical=isinstance(more, x509.BasicConstraints))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    return made.sign(by, SHA256()).public_bytes(Encoding.PEM)
