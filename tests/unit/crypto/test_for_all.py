"""One sealed body for several recipients."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secfpp.crypto.channel import ENVELOPE_OVERHEAD, OPENING_BYTES
from secfpp.errors import ProtocolError
from secfpp.seeding import SystemEntropy
from support.channels import CHANGES, LABEL, SECRET, Trio, flipped, refused

NAME, AGAIN = LABEL.name, replace(LABEL, attempt=9)


@pytest.fixture
def world() -> Trio:
    return Trio()


def sealed(world: Trio, sender: str = "anna", plaintext: bytes = SECRET) -> tuple[bytes, dict[str, bytes]]:
    others = [name for name in world.channel if name != sender]
    body, envelopes = world.channel[sender].seal_for_all(others, LABEL, plaintext, SystemEntropy())
    return body, dict(zip(others, envelopes, strict=True))


@pytest.mark.parametrize("plaintext", [b"", SECRET, bytes(100_000)])
def test_all_recipients_read_it(world: Trio, plaintext: bytes) -> None:
    body, envelopes = sealed(world, plaintext=plaintext)
    assert len(body) == len(plaintext) + ENVELOPE_OVERHEAD
    assert {len(envelope) for envelope in envelopes.values()} == {OPENING_BYTES}
    assert plaintext[:20] not in body or not plaintext
    for name, envelope in envelopes.items():
        assert world.channel[name].open_for_all("anna", LABEL, body, envelope) == plaintext


def test_it_is_sealed_anew_each_time() -> None:
    first, second = sealed(Trio()), sealed(Trio())
    assert first[0] != second[0]


@pytest.mark.parametrize("position", [0, 9, -1])
def test_a_changed_body_is_refused(world: Trio, position: int) -> None:
    body, envelopes = sealed(world)
    ben = world.channel["ben"]
    refused("anna", NAME, lambda: ben.open_for_all("anna", LABEL, flipped(body, position), envelopes["ben"]))


def test_a_changed_or_foreign_envelope_is_refused(world: Trio) -> None:
    body, envelopes = sealed(world)
    ben = world.channel["ben"]
    for envelope in (flipped(envelopes["ben"], 3), envelopes["cleo"], envelopes["ben"][:-1]):
        refused("anna", NAME, lambda envelope=envelope: ben.open_for_all("anna", LABEL, body, envelope))
    refused("cleo", NAME, lambda: ben.open_for_all("cleo", LABEL, body, envelopes["ben"]))


def test_who_has_the_key_too_makes_no_other_body(world: Trio) -> None:
    """Cleo knows the key that ben knows, and the server hands on what she makes with it."""
    _, envelopes = sealed(world)
    key = world.channel["cleo"].open("anna", LABEL, envelopes["cleo"])[:32]
    forged = AESGCM(key).encrypt(bytes(12), b"another sum", LABEL.encode())
    ben = world.channel["ben"]
    said = refused("anna", NAME, lambda: ben.open_for_all("anna", LABEL, forged, envelopes["ben"]))
    assert "a body that is not authentic" in said


def test_the_sender_itself_cannot_seal_what_does_not_open(world: Trio) -> None:
    """An envelope whose key is not the body's, with the right hash."""
    body, _ = sealed(world)
    envelope = world.channel["anna"].seal("ben", AGAIN, bytes(32) + sha256(body).digest())
    ben = world.channel["ben"]
    said = refused("anna", NAME, lambda: ben.open_for_all("anna", AGAIN, body, envelope))
    assert "did not seal with the key" in said


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_good_for_its_label_only(world: Trio, change: dict[str, object]) -> None:
    body, envelopes = sealed(world)
    other, ben = replace(LABEL, **change), world.channel["ben"]  # type: ignore[arg-type]
    refused("anna", other.name, lambda: ben.open_for_all("anna", other, body, envelopes["ben"]))


def test_a_label_serves_once(world: Trio) -> None:
    sealed(world)
    with pytest.raises(ProtocolError, match="was sealed already"):
        sealed(world)
