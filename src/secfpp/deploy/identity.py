"""Certificates of an engine bound to the keys of a roster.

A site signs, with its roster key, that an X.509 certificate is its own under a roster. So whoever runs the certificate
authority of the engine cannot put another certificate in its place unnoticed: what checks the signature refuses it.
It says nothing about who holds the certificate's private key; the engine's TLS does.
"""

from __future__ import annotations

from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from secfpp.crypto.roster import IdentityKey, Roster, pack, verify
from secfpp.errors import ConfigError, DataError, TamperError

_STEP = "deploy.identity"


def read_certificate(pem: bytes) -> x509.Certificate:
    """The certificate in `pem`.

    Raises:
        DataError: it holds none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise DataError("no X.509 certificate in PEM form; take the file that came with the kit") from error


def common_name(certificate: x509.Certificate) -> str:
    """Whose certificate it is: its subject's one common name, "" if it has none or several."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else ""


def certificate_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of the certificate in DER form, 32 bytes."""
    return sha256(certificate.public_bytes(Encoding.DER)).digest()


def sign_certificate(certificate: x509.Certificate, name: str, key: IdentityKey, roster: Roster) -> bytes:
    """The signature, 64 bytes, that the certificate belongs to site `name` of the roster.

    Raises:
        ConfigError: the certificate is another name's, `name` is not in the roster, or has another key there.
    """
    if (found := common_name(certificate)) != name:
        raise ConfigError(f"the certificate is that of {found!r}, the site is {name!r}: take this site's own kit")
    if roster.keys.get(name) != key.public:
        raise ConfigError(
            f"the roster of {roster.run!r} has no {name!r} with this site's key: ask for the newest roster"
        )
    return key.sign(_statement(certificate, name, roster))


def check_certificate(
    pem: bytes, signature: bytes, name: str, roster: Roster, authority: x509.Certificate
) -> x509.Certificate:
    """The certificate of site `name`, if it is the one that this site bound.

    Args:
        pem: the certificate.
        signature: what `sign_certificate` returned.
        name: whose it must be.
        roster: the run's.
        authority: who must have issued it.

    Raises:
        TamperError: another name's certificate, one of another issuer, or one that the site did not sign
            under this roster.
        DataError: no certificate.
    """
    certificate = read_certificate(pem)
    if common_name(certificate) != name:
        raise TamperError(name, _STEP, f"the certificate is that of {common_name(certificate)!r}")
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError) as error:
        raise TamperError(name, _STEP, "the certificate is not of this project's authority") from error
    public = roster.keys.get(name)
    if public is None or not verify(public, signature, _statement(certificate, name, roster)):
        raise TamperError(name, _STEP, f"the certificate is not bound to the roster of {roster.run!r}")
    return certificate


def _statement(certificate: x509.Certificate, name: str, roster: Roster) -> bytes:
    return pack(b"secfpp/certificate/1", roster.digest, name.encode(), certificate_digest(certificate))
