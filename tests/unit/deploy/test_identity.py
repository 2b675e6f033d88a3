"""Whose certificate is bound to which roster."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from secfpp.crypto.roster import IdentityKey, Roster
from secfpp.deploy.identity import check_certificate, common_name, read_certificate, sign_certificate
from secfpp.errors import ConfigError, DataError, TamperError

KEYS = {name: IdentityKey.generate() for name in ("anna", "ben")}
ROSTER = Roster("trial", 1, {name: key.public for name, key in KEYS.items()})


def issued(name: str, issuer: str, key: EllipticCurvePrivateKey) -> x509.Certificate:
    named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (name, issuer)]
    own = key if name == issuer else generate_private_key(SECP256R1())
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(named[1], named[0], own.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=1))
    return made.sign(key, SHA256())


AUTHORITY_KEY = generate_private_key(SECP256R1())
AUTHORITY = issued("project", "project", AUTHORITY_KEY)
ANNA = issued("anna", "project", AUTHORITY_KEY)
SIGNED = sign_certificate(ANNA, "anna", KEYS["anna"], ROSTER)


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def test_the_certificate_that_a_site_bound_is_taken() -> None:
    assert len(SIGNED) == 64
    assert common_name(check_certificate(pem(ANNA), SIGNED, "anna", ROSTER, AUTHORITY)) == "anna"


def test_another_certificate_of_the_same_name_and_authority_is_refused() -> None:
    with pytest.raises(TamperError, match="not bound") as refused:
        check_certificate(pem(issued("anna", "project", AUTHORITY_KEY)), SIGNED, "anna", ROSTER, AUTHORITY)
    assert refused.value.party == "anna"


def test_a_certificate_of_another_authority_is_refused() -> None:
    other = generate_private_key(SECP256R1())
    stranger = issued("anna", "project", other)
    signed = sign_certificate(stranger, "anna", KEYS["anna"], ROSTER)
    with pytest.raises(TamperError, match="authority"):
        check_certificate(pem(stranger), signed, "anna", ROSTER, AUTHORITY)


def test_anothers_certificate_is_refused() -> None:
    with pytest.raises(TamperError, match="that of 'anna'"):
        check_certificate(pem(ANNA), SIGNED, "ben", ROSTER, AUTHORITY)


@pytest.mark.parametrize(
    "roster",
    [
        Roster("trial", 2, ROSTER.keys),
        Roster("other", 1, ROSTER.keys),
        ROSTER.with_key("anna", IdentityKey.generate().public),
        ROSTER.without("anna"),
    ],
    ids=["version", "run", "key", "gone"],
)
def test_a_signature_counts_for_one_roster_only(roster: Roster) -> None:
    with pytest.raises(TamperError, match="not bound"):
        check_certificate(pem(ANNA), SIGNED, "anna", roster, AUTHORITY)


def test_a_site_signs_its_own_certificate_only() -> None:
    with pytest.raises(ConfigError, match="that of 'anna', the site is 'ben'"):
        sign_certificate(ANNA, "ben", KEYS["ben"], ROSTER)
    with pytest.raises(ConfigError, match="no 'anna' with this site's key"):
        sign_certificate(ANNA, "anna", KEYS["ben"], ROSTER)


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(DataError, match="PEM"):
        read_certificate(b"-----BEGIN NOTHING-----")
